from provision.host.redact import Identity, redact

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
    assert redact(["ubuntu 24.04", "linux", "/home/ubuntu2"], ubuntu) == ["ubuntu 24.04", "linux", "/home/ubuntu2"]


def test_nobody_and_root_change_nothing() -> None:
    nobody = Identity(home="/", user="", host_name="")
    assert redact(["/", "/usr//lib", "/root/x"], nobody) == ["/", "/usr//lib", "/root/x"]
    root = Identity(home="/root", user="root", host_name="localhost")
    assert redact(["/root/x", "/var/root"], root) == ["~/x", "/var/root"]
