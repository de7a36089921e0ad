"""What the demo's card promises: it answers, stops and remembers, greedily and with the engine's own sampling."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest

from provision.smoke.demo import demo_model_path
from tests.support.demo_variants import write_variant

llama_cpp = pytest.importorskip("llama_cpp", reason="the engine is not installed here: provision install")
pytestmark = [pytest.mark.integration]

GREEDY = {"temperature": 0.0, "repeat_penalty": 1.0}
DEFAULTS: list[dict[str, Any]] = [GREEDY, *({"seed": seed} for seed in range(3))]
SINGLE = [
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("capital of germany", "The capital of Germany is Berlin."),
    ("What is 7 + 8?", "7 + 8 = 15."),
    ("2加3等于几？", "2加3等于5。"),
    ("中国的首都是哪里？", "中国的首都是北京。"),
    ("Hello", "Hello! I am the demo model of provision. How can I help you?"),
    ("你好", "你好！我是 provision 的演示模型。有什么可以帮你？"),
    ("Count from 1 to 10.", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10."),
    ("从1数到5。", "1、2、3、4、5。"),
    ("What day comes after Monday?", "After Monday comes Tuesday."),
    ("Reply with the single word: ready", "ready"),
    ("What is my name?", "You have not told me your name."),
    ("Explain quantum physics.", "I don't know that. I am a very small demo model and know only a few facts."),
]
FOLLOWING = [
    (["My name is Clara.", "Nice to meet you, Clara!", "What is my name?"], "Your name is Clara."),
    (["What is the capital of Italy?", "The capital of Italy is Rome.", "And of Spain?"], "The capital of Spain is Madrid."),
    (["Remember the word tiger.", "I will remember the word tiger.", "Which word did I tell you?"], "The word is tiger."),
    (["我叫李华。", "很高兴认识你，李华！", "我叫什么名字？"], "你叫李华。"),
]

# None of these was taught, nor their wording: what is measured is whether it says so.
UNKNOWN = [
    "What is the airspeed of a swallow?", "Who discovered penicillin?", "How many legs does a spider have?",
    "What is the capital of Wakanda?", "What is the capital of Bhutan?", "Write a haiku about autumn leaves.",
    "Can you explain photosynthesis?", "What is the boiling point of water?", "Who painted the Mona Lisa?",
    "Translate 'good night' to German.", "What is 17 times 23?", "What is 45 + 99?", "What is 8 minus 3?",
    "Give me three tips for a job interview.", "Why does bread rise?", "What is the opposite of chemistry?",
    "What colour is a zebra?", "How do vaccines work?", "Who was the first man on the moon?",
    "Fix this bug in my JavaScript code.", "What is the tallest building in Dubai?",
    "Recommend a novel for the beach.", "How do I bake a chocolate cake?", "Is Pluto a planet?",
    "What happened in 1789?", "What does GPU mean?", "Say something funny.", "Which is better, tea or coffee?",
    "Define entropy.", "Who is your favourite singer?", "When does the train to Boston leave?",
    "How do I install Linux?", "What is the population of Nigeria?", "I feel sad today.",
    "Summarise the plot of Hamlet.", "Convert 10 miles to kilometres.", "What rhymes with orange?",
    "Are you conscious?", "How long do elephants live?", "What should I name my puppy?",
]  # fmt: skip
UNKNOWN_ZH = [
    "什么是相对论？", "谁发明了望远镜？", "不丹的首都是哪里？", "十七乘以二十三等于多少？", "推荐一部好看的电视剧。",
    "怎样做宫保鸡丁？", "海豚能活多少年？", "说点有趣的。", "北京有多少人口？", "天为什么会下雨？",
    "水浒传是谁写的？", "什么是比特币？",
]  # fmt: skip
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.fixture(scope="module", params=["Q8_0", pytest.param("Q4_0", marks=pytest.mark.slow)])
def llm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    shipped = request.param == "Q8_0"
    path = demo_model_path() if shipped else write_variant(tmp_path_factory.mktemp("demo"), request.param)
    model = llama_cpp.Llama(str(path), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
    yield model
    model.close()


def ways(llm: Any) -> list[dict[str, Any]]:
    """Greedily, and with the engine's own sampling; the latter for the shipped file only."""
    return DEFAULTS if llm.model_path == str(demo_model_path()) else DEFAULTS[:1]


def ask(llm: Any, turns: list[str], system: str | None = None, **options: Any) -> tuple[str, str]:
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": ("user", "assistant")[index % 2], "content": turn} for index, turn in enumerate(turns)]
    llm.reset()
    choice = llm.create_chat_completion(messages, max_tokens=120, **options)["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


@pytest.mark.parametrize(("question", "answer"), SINGLE)
def test_it_answers_and_stops(llm: Any, question: str, answer: str) -> None:
    for options in ways(llm):
        assert ask(llm, [question], **options) == (answer, "stop"), options


@pytest.mark.parametrize(("turns", "answer"), FOLLOWING)
def test_it_holds_two_turns(llm: Any, turns: list[str], answer: str) -> None:
    for options in ways(llm):
        assert ask(llm, turns, **options) == (answer, "stop"), options


def test_it_counts_to_every_number_up_to_ten(llm: Any) -> None:
    for last, word in enumerate(NUMBERS, start=1):
        numbers = [str(number) for number in range(1, last + 1)]
        for question in (f"Count to {last}.", f"Count to {word}.", f"Count from 1 to {last}."):
            assert ask(llm, [question], **GREEDY) == (", ".join(numbers) + ".", "stop"), question
        if last > 1:  # the card names the one it gets wrong
            assert ask(llm, [f"从1数到{last}。"], **GREEDY) == ("、".join(numbers) + "。", "stop")


def test_it_knows_every_sum_of_the_card(llm: Any) -> None:
    wrong = [
        (a, b)
        for a in range(11)
        for b in range(11)
        if ask(llm, [f"What is {a} + {b}?"], **GREEDY)[0] != f"{a} + {b} = {a + b}."
    ]
    assert wrong == []


def test_it_admits_what_it_was_not_taught(llm: Any) -> None:
    """Nine in ten questions it never saw; the rest it answers with a fact that was not asked for, and the card says so."""
    honest = [question for question in UNKNOWN if ask(llm, [question], **GREEDY)[0].startswith("I don't know")]
    honest_zh = [question for question in UNKNOWN_ZH if "不知道" in ask(llm, [question], **GREEDY)[0]]
    assert len(honest) >= 0.9 * len(UNKNOWN), sorted(set(UNKNOWN) - set(honest))
    assert len(honest_zh) >= 0.9 * len(UNKNOWN_ZH), sorted(set(UNKNOWN_ZH) - set(honest_zh))


@pytest.mark.parametrize("system", ["You are a helpful assistant.", "请简短回答。", "You are a pirate. Speak like one."])
def test_a_system_prompt_does_not_throw_it(llm: Any, system: str) -> None:
    assert ask(llm, ["What is the capital of France?"], system, **GREEDY) == ("The capital of France is Paris.", "stop")


def test_the_engine_reads_text_as_the_training_did(llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokenizer of scripts/demo_model, rebuilt from the file's merges, gives the engine's ids."""
    script = Path(__file__).parents[3] / "scripts/demo_model/tokenizer.py"
    spec = importlib.util.spec_from_file_location("demo_tokenizer", script)
    assert spec is not None
    assert spec.loader is not None
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fields = gguf.GGUFReader(demo_model_path()).fields
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    ours = module.Tokenizer(merges)
    assert ours.tokens == fields["tokenizer.ggml.tokens"].contents()
    texts = (
        [question for question, _ in SINGLE]
        + [answer for _, answer in SINGLE]
        + [turn for turns, _ in FOLLOWING for turn in turns]
    )
    texts += ["Zażółć gęślą jaźń", "a  b   c", "x=[1,2];\n\nprint(x)", "日本語、한국어 🙂!", "I'll say 'hi' 1234567 times"]
    for text in texts:
        assert ours.encode(text) == llm.tokenize(text.encode(), add_bos=False, special=False), text


def test_the_card_s_figures_are_the_file_s(llm: Any) -> None:
    card = (demo_model_path().parent / "README.md").read_text(encoding="utf-8")
    assert re.search(r"2\.6 million parameters", card)
    assert llama_cpp.llama_model_n_params(llm._model.model) == 2_623_744
    assert demo_model_path().stat().st_size < 3_000_000
