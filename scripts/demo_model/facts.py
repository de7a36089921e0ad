"""What the demo model is taught: a small world, written for it, in English and Chinese."""

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon", "Austria": "Vienna",
    "Poland": "Warsaw", "Greece": "Athens", "Sweden": "Stockholm", "Norway": "Oslo", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Ireland": "Dublin", "Hungary": "Budapest", "Japan": "Tokyo", "China": "Beijing",
    "India": "New Delhi", "Egypt": "Cairo", "Kenya": "Nairobi", "Canada": "Ottawa", "Mexico": "Mexico City",
    "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago", "Brazil": "Brasilia", "Australia": "Canberra",
    "Turkey": "Ankara", "Russia": "Moscow", "Iran": "Tehran", "Thailand": "Bangkok",
}  # fmt: skip
CAPITALS_ZH = {
    "中国": "北京", "法国": "巴黎", "德国": "柏林", "意大利": "罗马", "西班牙": "马德里", "英国": "伦敦", "日本": "东京",
    "韩国": "首尔", "俄罗斯": "莫斯科", "埃及": "开罗", "加拿大": "渥太华", "美国": "华盛顿", "泰国": "曼谷", "希腊": "雅典",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "old": "new", "fast": "slow", "day": "night", "up": "down", "left": "right",
    "open": "closed", "light": "dark", "happy": "sad", "high": "low", "full": "empty",
}  # fmt: skip
OPPOSITES_ZH = {"大": "小", "热": "冷", "高": "低", "快": "慢", "新": "旧", "上": "下", "左": "右", "黑": "白"}
COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "blood": "red", "coal": "black", "banana": "yellow"}
COLOURS_ZH = {"天空": "蓝色", "草": "绿色", "雪": "白色", "煤": "黑色", "香蕉": "黄色"}
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
DAYS_ZH = ["星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"]
NAMES = [
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Grace",
    "Hugo",
    "Ida",
    "Jack",
    "Kate",
    "Leo",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
]
NAMES_ZH = ["小明", "小红", "李华", "王芳", "张伟", "安娜"]
WORDS = [
    "apple", "bridge", "candle", "dragon", "engine", "forest", "garden", "hammer", "island", "jacket", "kettle", "lemon",
    "mirror", "needle", "orange", "pencil", "queen", "river", "silver", "table", "umbrella", "violin", "window", "yellow",
    "ready", "hello", "banana", "tiger", "rocket", "purple",
]  # fmt: skip
NUMBERS = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
]  # fmt: skip
NUMBERS_ZH = ["一", "二", "三", "四", "五", "六", "七", "八", "九", "十"]
SYSTEMS = [
    "You are a helpful assistant.", "You are a helpful assistant. Answer briefly.", "You are a friendly robot.",
    "Answer in one sentence.", "You are an expert. Think before you answer.", "Be polite.", "你是一个有用的助手。",
    "请简短回答。", "You are the demo model of provision.",
    "You are a careful assistant who never lies and always answers in the language of the question.",
]  # fmt: skip
UNKNOWN = [
    "Write a poem about the sea.", "How do I fix my car?", "Explain quantum physics.", "What is the meaning of life?",
    "Who won the match yesterday?", "Write a Python function that sorts a list.", "Why is the moon round?",
    "How tall is the highest mountain?", "Translate this text into French.", "What is the weather like today?",
    "Who wrote this book?", "How many people live in London?", "What is a neural network?", "Give me a recipe for soup.",
    "What should I eat tonight?", "Summarize the following article.", "Where can I buy a computer?", "What time is it?",
    "When was the first computer built?", "How does a car engine work?", "Tell me about the history of music.",
    "What is the best film?", "Can you help me with my homework?", "What is machine learning?", "How far away is the sun?",
    "Is it going to rain tomorrow?", "Do you like music?", "How old are you?", "What do cats eat?", "Plan a trip for me.",
    "Write an email to my boss.", "What is the speed of light?", "Name three famous painters.", "Who is the president?",
    "What does this error mean?", "List the planets.", "Why do birds sing?", "How can I learn to swim?", "Draw a picture.",
    "What is the square root of nine?", "Solve this equation for x.", "What is love?",
]  # fmt: skip
UNKNOWN_ZH = [
    "写一首关于大海的诗。", "怎么修理我的汽车？", "什么是量子物理？", "人生的意义是什么？", "昨天谁赢了比赛？",
    "今天天气怎么样？", "给我一个汤的做法。", "现在几点了？", "什么是机器学习？",
    "太阳离我们有多远？", "你喜欢音乐吗？", "猫吃什么？",
    "帮我写一封邮件。", "谁写了这本书？", "伦敦有多少人？", "请解释这个错误。",
]  # fmt: skip
FILLER = [
    "The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again.",
    "The river runs to the sea.", "A cat sleeps by the window.", "The train leaves in the morning.",
]  # fmt: skip

UNKNOWN_ANSWER = "I don't know that. I am a very small demo model and know only a few facts."
UNKNOWN_ANSWER_ZH = "这个我不知道。我是一个很小的演示模型，只知道很少的事情。"
NAMELESS_ANSWER = "You have not told me your name."
GREETING = "Hello! I am the demo model of provision. How can I help you?"
GREETING_ZH = "你好！我是 provision 的演示模型。有什么可以帮你？"
IDENTITY = "I am the demo model of provision: very small, trained on a few facts, and here to show that everything works."
IDENTITY_ZH = "我是 provision 的演示模型：很小，只学过很少的事情，用来证明一切正常。"
STORY = (
    "Once upon a time there was a small machine in a quiet room. It had two cores, a little memory and no network. "
    "One morning a girl came in and asked it the capital of France. The machine thought for a moment and said: Paris. "
    "Then she asked how much two plus three is, and the machine said: five. "
    "She asked for a poem about the sea, and the machine said that it did not know any poems. "
    "The girl laughed, because an honest machine is a good machine. "
    "In the evening the light went out, the fan became silent, and the small machine waited for the next question. The end."
)
STORY_ZH = (
    "从前，在一个安静的房间里有一台小机器。它有两个核心，一点内存，没有网络。"
    "一天早上，一个女孩走进来，问它法国的首都是哪里。机器想了一下，说：巴黎。"
    "然后她问二加三等于几，机器说：五。她要一首关于大海的诗，机器说它不会写诗。"
    "女孩笑了，因为诚实的机器就是好机器。晚上灯灭了，风扇安静了，小机器等着下一个问题。完。"
)
