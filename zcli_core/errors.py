"""Every error that zCLI raises on purpose.

A caller's mistake in an argument is a plain ``ValueError`` or ``TypeError``; trouble on the network is not
raised at all (see ``last_failure``). What is left is here.
"""

from __future__ import annotations


class ZCLIError(Exception):
    """The base of zCLI's own errors."""


class ConfigError(ZCLIError):
    """The configuration cannot be used; nothing was started.

    ``problems`` holds one sentence per mistake: its key, who set it, what was expected and what to do.
    """

    def __init__(self, problems: list[str] | tuple[str, ...] | str) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        numbered = "\n".join(f"  {n}. {problem}" for n, problem in enumerate(self.problems, 1))
        return f"{len(self.problems)} settings cannot be used:\n{numbered}"
