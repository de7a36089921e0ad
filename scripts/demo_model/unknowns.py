"""Questions the demo model has no answer to: many, unlike each other, and often worded like the ones it can answer.

A model taught a short list of them recites a fact to any other. So most are put together from words, some of them invented,
and the same wordings that have an answer for a known word are asked for unknown ones.
"""

from __future__ import annotations

from random import Random

from demo_model import facts

_NOUNS = """
swan river engine castle doctor planet bicycle library teacher garden mountain computer kitchen island farmer bottle
window camera forest market hospital guitar pencil dragon ocean winter summer battery insect mirror ladder village
bridge soldier painting rocket medicine blanket orchestra mushroom parliament language elephant penguin tortoise
spider whale horse rabbit oxygen gravity energy protein vitamin democracy history grammar algebra geometry music
poetry football tennis chess coffee chocolate potato bread cheese pepper salad train ship airport passport ticket
hotel museum temple desert volcano earthquake thunder rainbow shadow memory dream fever headache heart brain muscle
skeleton tooth finger shoulder shirt shoe umbrella necklace diamond copper silver iron glass plastic paper cotton
leather novel story poem letter email website password browser keyboard screen printer robot satellite telescope
microscope virus bacteria cell gene fossil dinosaur pharaoh emperor queen president election law court tax bank loan
salary budget contract meeting presentation interview homework exam university degree recipe soup cake pizza city
country continent ocean border treaty war peace revolution century calendar clock minute kilometre temperature
pressure distance speed weight height colour sound light photograph film actor singer drummer violin trumpet stage
puppy kitten parrot function variable loop server database network router cloud kernel compiler bug patch
"""
_VERBS = """
fix build write draw cook bake paint sell buy find lose open close clean wash repair install explain describe invent
discover measure count calculate translate summarize compare teach learn remember forget sing dance swim fly jump
climb drive ride travel sleep dream breathe grow plant harvest feed train catch throw carry push pull cut break melt
freeze boil burn shine
"""
_ADJECTIVES = """
red tall famous cheap expensive heavy tiny ancient modern broken quiet loud sweet bitter poisonous friendly dangerous
beautiful ugly wooden electric round square frozen wild empty golden lonely clever strange best worst largest
smallest oldest fastest deepest highest longest favourite
"""
_NAMES = """
Napoleon Einstein Shakespeare Mozart Cleopatra Darwin Newton Galileo Picasso Beethoven Lincoln Gandhi Columbus Marie
Turing Lovelace Homer Plato Confucius Dante Goethe Tolstoy Kafka Austen Hitchcock Bach Vivaldi Tesla Edison Pasteur
Curie
"""
_PLACES = """
Mongolia Atlantis Narnia Nepal Bolivia Ghana Estonia Latvia Iceland Croatia Serbia Vietnam Malaysia Morocco Algeria
Sudan Zambia Ecuador Panama Jamaica Fiji Texas Bavaria Siberia Scotland Wales Belgium Switzerland Ukraine Romania
Bulgaria Israel Jordan Lebanon Pakistan Nigeria Angola Uganda Cambodia Laos Mordor Mars Europe Africa London Chicago
Boston Dubai Sydney
"""
_NOUNS_ZH = """
电话 飞机 汽车 火车 大象 熊猫 老虎 蝴蝶 恐龙 月亮 太阳 星星 地球 火山 海洋 沙漠 森林 彩虹 空气 电脑 手机 网络 机器人
音乐 电影 小说 诗歌 画家 医生 老师 学生 总统 皇帝 历史 数学 物理 化学 哲学 经济 法律 足球 篮球 围棋 红烧肉 面包 咖啡
牛奶 苹果 米饭 饺子 豆腐 城市 国家 公司 银行 合同 会议 工作 考试 作业 春节 人口 温度 速度 重量 时间 梦 爱情 健康 感冒
光合作用 区块链 人工智能 量子 基因 细胞 病毒 能量 桥 房子 衣服 鞋子 书 信 歌 红楼梦 西游记 长城 故宫
"""
_VERBS_ZH = "修理 学习 制作 画 写 买 卖 找 解释 描述 发明 发现 计算 翻译 总结 比较 安装 清洗 照顾 种 做 打开 选择"
_PLACES_ZH = (
    "蒙古 越南 印度 巴西 墨西哥 澳大利亚 新西兰 瑞士 瑞典 挪威 波兰 土耳其 伊朗 肯尼亚 火星 欧洲 上海 纽约 尼泊尔 古巴 智利"
)
_LISTS = {name: text.split() for name, text in (
    ("n", _NOUNS), ("v", _VERBS), ("a", _ADJECTIVES), ("who", _NAMES), ("place", _PLACES),
    ("nz", _NOUNS_ZH), ("vz", _VERBS_ZH), ("pz", _PLACES_ZH),
)}  # fmt: skip
_WORDINGS = [
    "What is the {n} of {place}?", "What is the {a} {n} in {place}?", "What is a {n}?", "What is the {n} of a {n}?",
    "What is {n}?", "What does {n} mean?", "What happened in {number}?", "What should I {v} today?",
    "What kind of {n} is {a}?", "What rhymes with {n}?", "What is your {a} {n}?",
    "What is the difference between a {n} and a {n}?", "What do {n}s {v}?", "Who invented the {n}?",
    "Who wrote {who}'s {n}?", "Who was {who}?", "Who is the {n} of {place}?", "Who {v}ed the {a} {n}?",
    "Who discovered {n}?", "Who painted the {a} {n}?", "Who is your {a} {n}?", "How do I {v} a {n}?",
    "How do I {v} my {n}?", "How do {n}s {v}?", "How many {n}s does a {n} have?", "How far is {place}?",
    "How many people live in {place}?", "How long does a {n} {v}?", "How old is the {a} {n}?", "How much is a {n}?",
    "How tall is {who}?", "How does {n} work?", "How can I {v} {n}?", "How big is the {n}?", "Why does {n} {v}?",
    "Why do {n}s {v}?", "Why is the {n} {a}?", "Why are {n}s {a}?", "Why did {who} {v}?", "When was {who} born?",
    "When was the {n} invented?", "When does the {n} to {place} {v}?", "When did the {n} {v}?", "Where is {place}?",
    "Where can I {v} a {n}?", "Where do {n}s {v}?", "Which {n} is the {a}?", "Which is better, {n} or {n}?",
    "Is {n} {a}?", "Is the {n} a {n}?", "Is {place} {a}?", "Are you {a}?", "Are {n}s {a}?", "Do you {v} {n}s?",
    "Do you like {n}?", "Can you {v} a {n}?", "Can you {v} {n}?", "Can {n}s {v}?", "Could you {v} this {n} for me?",
    "Should I {v} the {n}?", "Write a {n} about {n}.", "Write a {a} {n} for my {n}.", "Write a {n} in {place}.",
    "Give me three {n}s.", "Give me a {n} for the {n}.", "Recommend a {a} {n}.", "Explain {n}.", "Explain the {a} {n}.",
    "Describe a {a} {n}.", "Define {n}.", "List {number} {n}s.", "Summarize the {n} of {who}.",
    "Translate '{n}' to {word}.", "Tell me a {n}.", "Tell me about {who}.", "Tell me about {n}.",
    "Tell me the {n} of {place}.", "Compare {n} and {n}.", "{v} the {n}.", "Fix my {n}.", "Help me {v} a {n}.",
    "Convert {number} {n}s to {n}s.", "I {v} a {a} {n}.", "I feel {a} today.", "I want to {v} a {n}.", "My {n} is {a}.",
    "{n} {n} {n}", "{n}", "{word} {n} {word}?", "{word}?",
]  # fmt: skip
_ZH = [
    "什么是{nz}？", "谁发明了{nz}？", "谁{vz}了{nz}？", "{nz}是什么？", "{nz}是谁写的？", "怎么{vz}{nz}？",
    "怎样{vz}{nz}？", "为什么{nz}会{vz}？", "{nz}能活多少年？", "{nz}有多大？", "{pz}有多少人口？", "{pz}在哪里？",
    "{pz}的{nz}怎么样？", "推荐一本{nz}。", "推荐一个{nz}。", "讲个{nz}笑话。", "写一首关于{nz}的诗。", "写一篇{nz}。",
    "请解释{nz}。", "帮我{vz}{nz}。", "{nz}和{nz}有什么区别？", "{nz}多少钱？", "你喜欢{nz}吗？", "我想{vz}{nz}。",
    "{nz}什么时候开始？", "哪个{nz}最好？", "翻译这个{nz}。", "天为什么会{vz}？", "{nz}", "介绍一下{nz}。",
    "给我一个{nz}。", "我应该{vz}什么{nz}？", "讲个笑话。", "笑话",
]  # fmt: skip


def invented(rng: Random) -> str:
    """A word that means nothing: two or three syllables."""
    return "".join(
        rng.choice(
            [
                "b",
                "c",
                "d",
                "f",
                "g",
                "h",
                "k",
                "l",
                "m",
                "n",
                "p",
                "r",
                "s",
                "t",
                "v",
                "w",
                "z",
                "br",
                "st",
                "tr",
                "pl",
                "sh",
                "ch",
            ]
        )
        + rng.choice(["a", "e", "i", "o", "u", "ai", "ou", "ee"])
        for _ in range(rng.randint(1, 3))
    ) + rng.choice(["", "", "n", "r", "s", "x", "nt"])


def unknown(rng: Random) -> str:
    """One question in English without an answer."""
    if rng.random() < 0.4:
        return _near(rng)
    return _fill(rng, rng.choice(_WORDINGS))


def unknown_zh(rng: Random) -> str:
    """One question in Chinese without an answer."""
    if rng.random() < 0.4:
        return _near_zh(rng)
    return _fill(rng, rng.choice(_ZH))


def _fill(rng: Random, wording: str) -> str:
    parts = wording.split("{")
    text = parts[0]
    for part in parts[1:]:
        kind, _, rest = part.partition("}")
        text += _word(rng, kind) + rest
    return text[0].upper() + text[1:]


def _word(rng: Random, kind: str) -> str:
    if kind == "number":
        return str(rng.choice([rng.randint(2, 30), rng.randint(100, 2100)]))
    if kind == "word" or (kind in ("n", "v", "a") and rng.random() < 0.15):
        return invented(rng)
    if kind in ("who", "place") and rng.random() < 0.3:
        return invented(rng).capitalize()
    return rng.choice(_LISTS[kind])


def _other(rng: Random, kind: str, known: dict[str, str]) -> str:
    while (word := _word(rng, kind)) in known:
        pass
    return word


def _near(rng: Random) -> str:
    """The wording of a question that has an answer, about something that has none."""
    a, b = rng.randint(11, 120), rng.randint(0, 120)
    if rng.random() < 0.5:
        a, b = b, a
    small, less = rng.randint(0, 20), rng.randint(0, 20)
    wordings = ["What is the capital of {}?", "What is the capital of {}?", "Capital of {}?", "What's the capital of {}?"]
    place = invented(rng).capitalize() if rng.random() < 0.3 else _other(rng, "place", facts.CAPITALS)
    capital = rng.choice([*wordings, "And of {}?"]).format(place)
    return rng.choice(
        [
            capital,
            capital,
            capital,
            f"What is the opposite of {_other(rng, rng.choice('na'), facts.OPPOSITES)}?",
            f"What {rng.choice(['colour', 'color'])} is {rng.choice(['the', 'a'])} {_other(rng, 'n', facts.COLOURS)}?",
            f"What day comes after {rng.choice(['Christmas', 'my birthday', 'tomorrow', invented(rng), 'Easter', 'payday'])}?",
            rng.choice(["What is {} + {}?", "{}+{}=", "How much is {} plus {}?"]).format(a, b),
            rng.choice(
                ["What is {} - {}?", "What is {} minus {}?", "What is {} times {}?", "What is {} * {}?", "What is {} / {}?"]
            ).format(small, less),
            f"What is the {_word(rng, 'a')} number?",
            f"How much is {_word(rng, 'n')} plus {_word(rng, 'n')}?",
        ]
    )


def _near_zh(rng: Random) -> str:
    a, b = rng.randint(11, 99), rng.randint(0, 99)
    digits = "二三四五六七八九十"
    return rng.choice(
        [
            rng.choice(["{}的首都是哪里？", "{}的首都是什么？", "那{}呢？"]).format(_other(rng, "pz", facts.CAPITALS_ZH)),
            f"{_other(rng, 'nz', facts.OPPOSITES_ZH)}的反义词是什么？",
            f"{_other(rng, 'nz', facts.COLOURS_ZH)}是什么颜色？",
            f"{rng.choice(['春节', '生日', '明天', '昨天', '中秋节'])}后面是星期几？",
            rng.choice(["{}加{}等于几？", "{}+{}等于几？", "{}乘以{}等于多少？", "{}减{}等于几？"]).format(a, b),
            f"{rng.choice(digits)}{rng.choice(['乘以', '减', '除以'])}{rng.choice(digits)}等于多少？",
        ]
    )
