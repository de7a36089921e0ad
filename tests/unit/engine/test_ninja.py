from provision.engine.ninja import NinjaProgress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rate_and_time_left_come_from_the_steps_seen() -> None:
    clock = Clock()
    build = NinjaProgress(now=clock)
    first = build.feed("  [1/187] /usr/bin/g++ -c a/ggml.cpp -o CMakeFiles/ggml.dir/ggml.cpp.o -MF x")
    assert first is not None
    assert (first.done, first.total, first.per_s, first.left_s, first.note) == (1, 187, None, None, "ggml.cpp")
    clock.now = 110.0
    second = build.feed("  [21/187] : && /usr/bin/g++ -shared -o bin/libggml-base.so")
    assert second is not None
    assert (second.per_s, second.left_s, second.note) == (2.0, 83.0, "libggml-base.so")


def test_lines_that_are_no_step_and_builds_inside_the_build_say_nothing() -> None:
    build = NinjaProgress(now=Clock())
    assert build.feed("-- Configuring done") is None
    assert build.feed("[3/200] Building") is not None
    assert build.feed("[2/4] building vulkan-shaders-gen") is None
    assert build.feed("[9/3] nonsense") is None
    again = build.feed("[4/200] x")
    assert again is not None
    assert again.done == 4


def test_a_resumed_build_starts_its_own_count() -> None:
    clock = Clock()
    build = NinjaProgress(now=clock)
    build.feed("[50/60] x")
    clock.now += 5
    state = build.feed("[1/10] x")
    assert state is None
