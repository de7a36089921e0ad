import pytest

from provision.host.redact import Identity, redact, without_secrets

ALICE = Identity(home="/home/alice", user="alice", host_name="lab-07")


def test_the_person_leaves_paths() -> None:
    data = {
        "home": "/home/alice",
        "paths": ["/home/alice/.cache", "/scratch/alice/models", "/mnt/lab-07/x", "PATH=/home/alice/bin:/usr/bin"],
        "nested": {"n": 3, "none": None, "text": "in /data/alice."},
    }
    plain = redact(data, ALICE)
    assert "alice" not in str(plain)
    assert plain["home"] == "~"
    assert plain["paths"] == ["~/.cache", "/scratch/USER/models", "/mnt/HOST/x", "PATH=~/bin:/usr/bin"]
    assert plain["nested"]["n"] == 3


def test_words_that_are_no_path_stay() -> None:
    ubuntu = Identity(home="/home/ubuntu", user="ubuntu", host_name="linux")
    assert redact(["ubuntu 24.04", "linux", "/opt/ubuntu2"], ubuntu) == ["ubuntu 24.04", "linux", "/opt/ubuntu2"]


def test_nobody_and_root_change_nothing() -> None:
    nobody = Identity(home="/", user="", host_name="")
    assert redact(["/", "/usr//lib", "/root/x"], nobody) == ["/", "/usr//lib", "/root/x"]
    root = Identity(home="/root", user="root", host_name="localhost")
    assert redact(["/root/x", "/var/root"], root) == ["~/x", "/var/root"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("/home/bob/miniconda3", "/home/USER/miniconda3"),
        ("-L/home/bob/lib -I/Users/carol/x", "-L/home/USER/lib -I/Users/USER/x"),
        ("-L/home/alice/lib", "-L~/lib"),
        (r"C:\Users\dora\AppData", r"C:\Users\USER\AppData"),
        ("/home/linuxbrew/.linuxbrew/bin/gcc-12", "/home/linuxbrew/.linuxbrew/bin/gcc-12"),
        ("/nfs/u4711/x", "~/x"),
        ("GPU-12345678-1234-1234-1234-123456789abc", "GPU-UUID"),
        ("0,GPU-1234abcd", "0,GPU-UUID"),
        ("MIG-GPU-12345678-1234-1234-1234-123456789abc/1/0", "MIG-UUID/1/0"),
        ("export CUDA_VISIBLE_DEVICES=MIG-...", "export CUDA_VISIBLE_DEVICES=MIG-..."),
        ("serial 12345678-1234-1234-1234-123456789abc", "serial UUID"),
    ],
)
def test_nobody_else_is_told_of_either(said: str, shown: str) -> None:
    alice = Identity(home="/home/alice", user="alice", host_name="lab-07", real_home="/nfs/u4711")
    assert redact(said, alice) == shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("-DTOKEN=hf_AbCdEfGh123", "-DTOKEN=hf_TOKEN"),
        ("ms-0123abcd-0123-4567-89ab-0123456789ab", "ms-TOKEN"),
        ("https://alice:hunter2@mirror.example/hf", "https://mirror.example/hf"),
    ],
)
def test_secrets_are_never_shown(said: str, shown: str) -> None:
    assert without_secrets({"x": [said]}) == {"x": [shown]}
    assert redact(said, Identity(home="", user="", host_name="")) == shown
