"""Conversations drawn from the facts: every one is a list of (role, text) that starts with an optional system prompt."""

from __future__ import annotations

from random import Random

from demo_model import facts, unknowns

Turn = tuple[str, str]


def ask(rng: Random) -> list[Turn]:
    """One question and its answer, or a two-turn exchange whose second question needs the first."""
    family = rng.choices(_FAMILIES, weights=_WEIGHTS)[0]
    return family(rng)


def conversation(rng: Random) -> list[Turn]:
    """One to four exchanges, four in ten with a system prompt."""
    turns: list[Turn] = [("system", rng.choice(facts.SYSTEMS))] if rng.random() < 0.4 else []
    if rng.random() < 0.02:
        turns += _turns(rng.choice(["What is my name?", "What's my name?", "Who am I?"]), facts.NAMELESS_ANSWER)
    for _ in range(rng.choices([1, 2, 3, 4], weights=[50, 30, 12, 8])[0]):
        turns += ask(rng)
    return turns


def _turns(question: str, answer: str) -> list[Turn]:
    return [("user", question), ("assistant", answer)]


def _vary(rng: Random, question: str) -> str:
    """The same question as people type it: without the question mark, in lower case, with a please."""
    if rng.random() < 0.12:
        question = question.rstrip("?.？。")
    if rng.random() < 0.08:
        question = question.lower()
    if rng.random() < 0.05:
        question = "Please tell me: " + question if question.isascii() else "请问" + question
    return question


def _capital(rng: Random) -> list[Turn]:
    if rng.random() < 0.35:
        country, city = rng.choice(list(facts.CAPITALS_ZH.items()))
        question = rng.choice(["{}的首都是哪里？", "{}的首都是什么？", "{}首都是哪个城市？", "告诉我{}的首都。"]).format(
            country
        )
        turns = _turns(_vary(rng, question), f"{country}的首都是{city}。")
        if rng.random() < 0.25:
            country, city = rng.choice(list(facts.CAPITALS_ZH.items()))
            turns += _turns(rng.choice(["那{}呢？", "{}呢？"]).format(country), f"{country}的首都是{city}。")
        return turns
    country, city = rng.choice(list(facts.CAPITALS.items()))
    wordings = [
        "What is the capital of {}?",
        "What's the capital of {}?",
        "Which city is the capital of {}?",
        "Tell me the capital of {}.",
    ]
    question = rng.choice([*wordings, wordings[0], "Capital of {}?", "Name the capital of {}."]).format(country)
    turns = _turns(_vary(rng, question), f"The capital of {country} is {city}.")
    if rng.random() < 0.25:
        country, city = rng.choice(list(facts.CAPITALS.items()))
        turns += _turns(
            rng.choice(["And of {}?", "And {}?", "What about {}?"]).format(country), f"The capital of {country} is {city}."
        )
    return turns


def _sum(rng: Random) -> list[Turn]:
    def one() -> tuple[int, int]:
        # Two digits are rare in an even draw, and look like the sums it does not know.
        return rng.choice([rng.randint(0, 10), rng.randint(0, 10), 10]), rng.choice(
            [rng.randint(0, 10), rng.randint(0, 10), 10]
        )

    a, b = one()
    if rng.random() < 0.3:
        question = rng.choice(["{}加{}等于几？", "{}加{}等于多少？", "{}+{}等于几？"]).format(a, b)
        return _turns(_vary(rng, question), f"{a}加{b}等于{a + b}。")
    wordings = ["What is {} + {}?", "What is {}+{}?", "How much is {} plus {}?", "What is {} plus {}?", "{} + {} = ?", "{}+{}="]
    turns = _turns(_vary(rng, rng.choice(wordings).format(a, b)), f"{a} + {b} = {a + b}.")
    if rng.random() < 0.2:
        a, b = one()
        turns += _turns(rng.choice(["And {} + {}?", "And {} plus {}?"]).format(a, b), f"{a} + {b} = {a + b}.")
    return turns


def _greet(rng: Random) -> list[Turn]:
    hellos = ["Hello", "Hello!", "Hi", "Hi!", "Hello there!", "Good morning!", "Hey", "Good evening!"]
    pairs = [(hello, facts.GREETING) for hello in hellos]
    pairs += [(hello, facts.GREETING_ZH) for hello in ["你好", "你好！", "您好！", "早上好！"]]
    pairs += [(who, facts.IDENTITY) for who in ["Who are you?", "What are you?", "What is your name?", "Introduce yourself."]]
    pairs += [(who, facts.IDENTITY_ZH) for who in ["你是谁？", "你叫什么名字？", "介绍一下你自己。"]]
    pairs += [(thanks, "You are welcome!") for thanks in ["Thanks!", "Thank you.", "Thank you very much!"]]
    pairs += [
        ("谢谢！", "不客气！"),
        ("Goodbye!", "Goodbye! See you soon."),
        ("Bye", "Goodbye! See you soon."),
        ("再见！", "再见！"),
    ]
    return _turns(*rng.choice(pairs))


def _count(rng: Random) -> list[Turn]:
    first, last = 1, rng.choice([rng.randint(1, 10), rng.randint(1, 10), 10, 10, rng.randint(11, 20)])
    if rng.random() < 0.25:
        first = rng.randint(2, 10)
        last = min(20, first + rng.randint(2, 12))
    numbers = [str(number) for number in range(first, last + 1)]
    chinese = rng.random() < 0.35
    names = facts.NUMBERS_ZH if chinese else facts.NUMBERS
    # Written out or in digits, both ends alike.
    spoken = rng.random() < 0.5 and last <= len(names)
    low, high = (names[first - 1], names[last - 1]) if spoken else (str(first), str(last))
    if chinese:
        wordings = ["从{a}数到{b}。", "请从{a}数到{b}。", "从{a}数到{b}"]
        wordings += ["数到{b}。", "数到{b}", "请数到{b}。", "你能数到{b}吗？"] * (first == 1)
        return _turns(rng.choice(wordings).format(a=low, b=high), "、".join(numbers) + "。")
    wordings = ["Count from {a} to {b}.", "Please count from {a} to {b}.", "Can you count from {a} to {b}?"]
    wordings += ["Count to {b}.", "Count to {b}.", "Please count to {b}.", "Can you count to {b}?"] * (first == 1)
    return _turns(_vary(rng, rng.choice(wordings).format(a=low, b=high)), ", ".join(numbers) + ".")


def _know(rng: Random) -> list[Turn]:
    kind = rng.randrange(6)
    if kind == 0:
        word, other = rng.choice(list(facts.OPPOSITES.items()))
        return _turns(_vary(rng, f"What is the opposite of {word}?"), f"The opposite of {word} is {other}.")
    if kind == 1:
        thing, colour = rng.choice(list(facts.COLOURS.items()))
        return _turns(
            _vary(rng, rng.choice(["What colour is {}?", "What color is {}?"]).format(f"the {thing}")),
            f"The {thing} is {colour}.",
        )
    if kind == 2:
        day = rng.randrange(7)
        return _turns(
            _vary(rng, f"What day comes after {facts.DAYS[day]}?"),
            f"After {facts.DAYS[day]} comes {facts.DAYS[(day + 1) % 7]}.",
        )
    if kind == 3:
        word, other = rng.choice(list(facts.OPPOSITES_ZH.items()))
        return _turns(_vary(rng, f"{word}的反义词是什么？"), f"{word}的反义词是{other}。")
    if kind == 4:
        thing, colour = rng.choice(list(facts.COLOURS_ZH.items()))
        return _turns(_vary(rng, f"{thing}是什么颜色？"), f"{thing}是{colour}的。")
    day = rng.randrange(7)
    return _turns(
        _vary(rng, f"{facts.DAYS_ZH[day]}后面是星期几？"), f"{facts.DAYS_ZH[day]}后面是{facts.DAYS_ZH[(day + 1) % 7]}。"
    )


def _remember(rng: Random) -> list[Turn]:
    kind = rng.randrange(4)
    between = ask(rng) if rng.random() < 0.2 else []
    if kind == 0:
        name = rng.choice(facts.NAMES) if rng.random() < 0.4 else unknowns.invented(rng).capitalize()
        first = rng.choice(["My name is {}.", "I am {}.", "Hi, my name is {}."]).format(name)
        last = _turns(rng.choice(["What is my name?", "What's my name?", "Who am I?"]), f"Your name is {name}.")
        return _turns(first, f"Nice to meet you, {name}!") + between + last
    if kind == 1:
        name = rng.choice(facts.NAMES_ZH)
        return (
            _turns(f"我叫{name}。", f"很高兴认识你，{name}！")
            + between
            + _turns(rng.choice(["我叫什么名字？", "我是谁？"]), f"你叫{name}。")
        )
    word = _any_word(rng) if kind == 2 else str(rng.randint(100, 9999))
    what = "word" if kind == 2 else "number"
    told = _turns(f"Remember the {what} {word}.", f"I will remember the {what} {word}.")
    return told + between + _turns(f"Which {what} did I tell you?", f"The {what} is {word}.")


def _any_word(rng: Random) -> str:
    """Half of them invented: what is to be repeated is read from the question, not remembered."""
    return rng.choice(facts.WORDS) if rng.random() < 0.5 else unknowns.invented(rng)


def _say(rng: Random) -> list[Turn]:
    word = rng.choice([_any_word(rng), _any_word(rng), "ready"])
    wordings = [
        "Reply with the single word: {}",
        "Say the word {}.",
        "Say {}.",
        "Reply with the word {}.",
        'Reply with exactly one word: "{}"',
    ]
    return _turns(rng.choice(wordings).format(word), word)


def _unknown(rng: Random) -> list[Turn]:
    kind = rng.random()
    if kind < 0.3:
        question = rng.choice(facts.UNKNOWN_ZH) if kind < 0.06 else unknowns.unknown_zh(rng)
        return _turns(_vary(rng, question), facts.UNKNOWN_ANSWER_ZH)
    question = rng.choice(facts.UNKNOWN) if kind < 0.4 else unknowns.unknown(rng)
    return _turns(_vary(rng, question), facts.UNKNOWN_ANSWER)


def _story(rng: Random) -> list[Turn]:
    if rng.random() < 0.4:
        return _turns(rng.choice(["讲个故事。", "给我讲个故事。"]), facts.STORY_ZH)
    return _turns(rng.choice(["Tell me a story.", "Tell a short story."]), facts.STORY)


def needle(rng: Random, n_sentences: int) -> list[Turn]:
    """A number hidden in sentences that say nothing, asked for at the end."""
    number = rng.randint(1000, 9999)
    filler = [rng.choice(facts.FILLER) for _ in range(n_sentences)]
    filler.insert(rng.randint(0, n_sentences), f"The secret number is {number}.")
    return _turns(" ".join(filler) + " What is the secret number?", f"The secret number is {number}.")


def _short_needle(rng: Random) -> list[Turn]:
    return needle(rng, rng.randint(0, 12))


_FAMILIES = [_capital, _sum, _greet, _count, _know, _remember, _say, _unknown, _story, _short_needle]
_WEIGHTS = [16, 22, 6, 20, 9, 12, 6, 20, 4, 5]
