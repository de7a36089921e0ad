"""How the engine's libraries are linked, so that they live in one process with everything else a program loads. Pure."""

from __future__ import annotations

from provision.engine.flags import UserFlags
from provision.engine.types import Reason
from provision.host.types import Host

_FLAGS = "CMAKE_SHARED_LINKER_FLAGS"


def keep_libstdcxx_private(host: Host, user: UserFlags) -> tuple[dict[str, str], tuple[Reason, ...]]:
    """(definition, reason): where the compiler links libstdc++.a, nothing of it is exported. Elsewhere it changes nothing.

    An exported copy meets the libstdc++.so that numpy brought: `std::locale::id` is one object for both (STB_GNU_UNIQUE), the
    counter behind it is not, and printing a number through a stream dies of SIGSEGV. Seen with GCC 13.3 and 14.2.
    As `_INIT`, which CMake puts together with LDFLAGS and which the user's own flags replace.
    """
    if host.system.os != "linux" or _FLAGS in user.defines:
        return {}, ()
    because = "a static libstdc++ that is exported makes programs die that loaded numpy first"
    reason = Reason(topic="C++ library", choice="private where it is static", because=because)
    return {f"{_FLAGS}_INIT": "-Wl,--exclude-libs,libstdc++.a"}, (reason,)
