"""Names of environment variables that decide what other programs load, run or trust.

A file that sets one of these could make every program that inherits the environment run its code or trust its server.
So a configuration layer cannot put them into the environment.

The list follows those of glibc (``UNSECURE_ENVVARS``) and sudo (``initial_badenv_table``), and adds variables of TLS,
proxies, and current interpreters and tools.
"""

from __future__ import annotations

_PREFIXES = (
    # loaders and the C library
    "LD_", "DYLD_", "_RLD", "MALLOC_", "RESOLV_",
    # interpreters and what they load
    "PYTHON", "PERL5", "PERLLIB", "PERLIO", "RUBY", "GEM_", "BUNDLE_", "LUA_", "JAVA_", "_JAVA", "JDK_JAVA", "PHP_INI",
    "BASH_FUNC_", "COR_PROFILER", "COR_ENABLE", "CORECLR_", "DOTNET_",
    # TLS
    "SSL_", "OPENSSL_",
    # tools that run other programs or fetch code
    "GIT_", "PIP_", "UV_", "NPM_CONFIG_", "XDG_", "KRB5_",
)  # fmt: skip
_SUFFIXES = ("_PROXY", "_CA_BUNDLE", "_CA_CERTS", "_ASKPASS")
_NAMES = frozenset({
    # loaders and the C library
    "PATH", "LIBPATH", "SHLIB_PATH", "GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "HOSTALIASES", "LOCALDOMAIN",
    "LOCPATH", "NIS_PATH", "NLSPATH", "PATH_LOCALE", "RES_OPTIONS", "TERMCAP", "TERMINFO", "TERMINFO_DIRS", "TERMPATH",
    "PATHEXT", "COMSPEC", "SYSTEMROOT", "WINDIR",
    # shells
    "IFS", "ENV", "BASH_ENV", "BASHOPTS", "SHELLOPTS", "CDPATH", "GLOBIGNORE", "PS4", "PROMPT_COMMAND", "FPATH",
    "NULLCMD", "READNULLCMD", "ZDOTDIR", "SHELL",
    # interpreters
    "NODE_OPTIONS", "NODE_PATH", "NODE_EXTRA_CA_CERTS", "NODE_TLS_REJECT_UNAUTHORIZED", "NODE_REPL_EXTERNAL_MODULE",
    "CLASSPATH", "PHPRC", "PSMODULEPATH", "R_PROFILE", "R_PROFILE_USER",
    # TLS
    "SSLKEYLOGFILE", "CURL_HOME", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    # the programs that others run, and where all of them look for their settings
    "EDITOR", "VISUAL", "PAGER", "MANPAGER", "BROWSER", "LESSOPEN", "LESSCLOSE", "VIMINIT", "EXINIT", "RSYNC_RSH",
    "CVS_RSH", "SUDO_EDITOR", "SSH_AUTH_SOCK", "HOME",
})  # fmt: skip


def steers(name: str) -> bool:
    """Return whether a variable steers a loader, an interpreter, TLS, a proxy or which programs run, in any case."""
    upper = name.upper()
    return upper in _NAMES or upper.startswith(_PREFIXES) or upper.endswith(_SUFFIXES)
