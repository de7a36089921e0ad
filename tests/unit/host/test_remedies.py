"""What doctor tells people to type: it can be pasted, it is for this distribution, and our own commands exist."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace

import pytest
import typer.main

from provision.cli.main import make_app
from provision.host.doctor import diagnose
from provision.host.packages import compiler_command, cuda_package_commands, driver_command, family_of, vulkan_command
from provision.host.types import Gpu, Host, System
from tests.support.machine_files import load_machine, machine_names

_TOOLS = {
    *("sudo", "docker", "conda", "provision", "python3", "python", "export", "unset", "df", "ps", "nvidia-smi", "brew"),
    *("xcode-select", "wget", "wsl", "winget", "ls", "nix-shell", "python3.12"),
}


def remedies() -> Iterator[tuple[str, str, str]]:
    for name in machine_names():
        host = load_machine(name).host
        for variant in (host, replace(host, tools=(), engine=None), replace(host, driver=None), replace(host, python=None)):
            for finding in diagnose(variant).findings:
                for command in finding.remedy.commands if finding.remedy else ():
                    yield name, finding.check, command


REMEDIES = sorted(set(remedies()))


def test_there_are_many() -> None:
    assert len({command for _, _, command in REMEDIES}) > 40


@pytest.mark.parametrize("command", sorted({command for _, _, command in REMEDIES}))
def test_a_command_is_one_line_of_a_known_program_with_nothing_left_out(command: str) -> None:
    assert "\n" not in command
    words = shlex.split(command, comments=True)
    assert words, "a comment is no command"
    assert words[0] in _TOOLS, words[0]
    assert "..." not in command
    assert not re.search(r"<\w+>", command)


@pytest.mark.parametrize("command", sorted({command for _, _, command in REMEDIES if command.startswith("provision ")}))
def test_our_own_commands_exist_with_these_options(command: str) -> None:
    group = typer.main.get_command(make_app())
    _, name, *arguments = shlex.split(command, comments=True)
    # Parsed as the command line would be, and not run.
    context = group.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]
    assert context.params


@pytest.mark.parametrize(("name", "check", "command"), REMEDIES)
def test_packages_are_asked_of_the_distribution_s_own_manager(name: str, check: str, command: str) -> None:
    host = load_machine(name).host
    managers = {"apt": "debian", "dnf": "fedora rhel", "pacman": "arch", "zypper": "suse", "apk": "alpine", "brew": ""}
    for manager, families in managers.items():
        if manager in shlex.split(command, comments=True):
            family = family_of(host.system)
            assert (family in families.split()) if families else host.system.os == "darwin", (check, command)


@pytest.mark.parametrize(
    ("distribution", "like", "words"),
    [
        ("debian 12", (), "sudo apt install build-essential"),
        ("ubuntu 24.04", ("debian",), "sudo apt install build-essential"),
        ("zorin 17", ("ubuntu", "debian"), "sudo apt install build-essential"),
        ("bunsenlabs 12", ("debian",), "sudo apt install build-essential"),
        ("fedora 42", (), "sudo dnf install gcc-c++"),
        ("rocky 9.4", ("rhel", "centos", "fedora"), "sudo dnf install gcc-c++"),
        ("manjaro", ("arch",), "sudo pacman -S --needed base-devel"),
        ("opensuse-tumbleweed 20250101", ("opensuse", "suse"), "sudo zypper install gcc-c++"),
        ("alpine 3.20.3", (), "sudo apk add build-base linux-headers"),
        ("slackware 15", (), "conda install -c conda-forge cxx-compiler"),
        (None, (), "conda install -c conda-forge cxx-compiler"),
    ],
)
def test_the_compiler_of_each_distribution(distribution: str | None, like: tuple[str, ...], words: str) -> None:
    assert compiler_command(on(distribution, like)) == words


@pytest.mark.parametrize(
    ("distribution", "command"),
    [
        ("debian 13", "sudo apt install libvulkan-dev glslc spirv-headers"),
        ("debian 12", None),
        ("ubuntu 22.04", None),
        ("arch", "sudo pacman -S --needed vulkan-headers vulkan-icd-loader shaderc spirv-headers"),
        ("slackware 15", None),
    ],
)
def test_vulkan_where_the_distribution_s_headers_are_new_enough(distribution: str, command: str | None) -> None:
    assert vulkan_command(on(distribution)) == command


def test_nvidia_s_packages_come_with_their_repository() -> None:
    first, second, third = cuda_package_commands(on("ubuntu 22.04"), "cuda-toolkit-12-9", (12, 9))
    assert first.startswith("wget https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2204/x86_64/cuda-keyring")
    assert second.startswith("sudo dpkg -i cuda-keyring")
    assert third == "sudo apt install cuda-toolkit-12-9"
    arm = Host(system=System(os="linux", arch="aarch64", distribution="ubuntu 24.04"))
    assert "/sbsa/" in cuda_package_commands(arm, "x", (13, 0))[0]
    # Ubuntu 24.04 is younger than CUDA 12.4; Fedora has no such repository that we know; no version, no package.
    for host, cuda in ((on("ubuntu 24.04"), (12, 4)), (on("ubuntu 20.04"), (13, 0)), (on("fedora 42"), (13, 0)), (arm, ())):
        assert cuda_package_commands(host, "x", cuda) == ()


def test_the_open_kernel_module_is_not_offered_for_gpus_before_turing() -> None:
    pascal = Gpu(index=0, name="GTX 1080", vendor="nvidia", source="sysfs", compute_capability=(6, 1))
    assert driver_command(on("arch")) == "sudo pacman -S nvidia-open"
    assert driver_command(replace(on("arch"), gpus=(pascal,))) is None


def test_paths_of_somebody_else_s_file_cannot_smuggle_commands_into_what_is_pasted() -> None:
    host = load_machine("two-toolkits-mixed").host
    evil = "/opt/$(touch hacked) `id`;x"
    toolkits = tuple(replace(toolkit, root=evil + str(place)) for place, toolkit in enumerate(host.toolkits))
    environment = {**host.environment, "LD_LIBRARY_PATH": f"/usr/lib/stubs:{evil}", "CUDA_HOME": evil}
    disks = tuple(replace(disk, path=evil, free_bytes=0) for disk in host.disks)
    changed = replace(host, toolkits=toolkits, environment=environment, disks=disks)
    commands = [c for f in diagnose(changed).findings if f.remedy for c in f.remedy.commands if "hacked" in c]
    assert commands
    for command in commands:
        assert any(evil in word for word in shlex.split(command)), command
        assert command.count("'") >= 2


def on(distribution: str | None, like: tuple[str, ...] = ()) -> Host:
    return Host(system=System(os="linux", arch="x86_64", distribution=distribution, distribution_like=like))
