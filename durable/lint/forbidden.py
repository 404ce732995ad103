"""Which names of Python's library and of others a workflow function must not call, and by which rule."""

from __future__ import annotations

import ast
from collections.abc import Mapping

_LOGGERS = (
    "logging logging.getLogger() logging.Logger() logging.LoggerAdapter() structlog.get_logger()"
    " structlog.stdlib.get_logger() loguru.logger".split()
)
_NAMES: Mapping[str, Mapping[str, str]] = {
    "DUR101": {
        "time": "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns"
        " thread_time thread_time_ns clock_gettime clock_gettime_ns localtime gmtime ctime asctime strftime",
        "datetime.datetime": "now utcnow today",
        "datetime.date": "today",
        "django.utils.timezone": "now localtime localdate",
        "pendulum": "now today tomorrow yesterday",
        "arrow": "now utcnow",
        "pandas.Timestamp": "now utcnow today",
    },
    "DUR102": {"random": "Random", "numpy.random": "RandomState"},
    "DUR103": {
        "uuid": "uuid1 uuid4 uuid6 uuid7 uuid8 getnode",
        "ulid": "new ULID",
        "shortuuid": "uuid",
    },
    "DUR104": {"os": "urandom getrandom", "random": "SystemRandom"},
    "DUR105": {
        "os": "getenv getenvb getpid getppid getlogin uname cpu_count getloadavg",
        "getpass": "getuser",
        "socket": "gethostname getfqdn",
    },
    "DUR106": {"builtins": "hash id"},
    "DUR201": {"time": "sleep"},
    "DUR202": {
        "asyncio": "open_connection start_server open_unix_connection start_unix_server",
        "boto3": "client resource",
        "sqlalchemy": "create_engine",
        "sqlalchemy.ext.asyncio": "create_async_engine",
    },
    "DUR203": {
        "builtins": "open input",
        "io": "open open_code",
        "aiofiles": "open",
        "anyio": "open_file",
        "fileinput": "input",
        "glob": "glob iglob",
        "os": "open read write listdir scandir walk fwalk stat lstat access mkdir makedirs remove unlink rename"
        " renames replace rmdir removedirs chmod chown link symlink readlink truncate utime getcwd chdir",
        "os.path": "exists lexists isfile isdir islink getsize getmtime getctime getatime realpath abspath",
        "pathlib.Path": "cwd home",
        "pathlib.Path()": "open read_text read_bytes write_text write_bytes exists is_file is_dir is_symlink stat"
        " lstat iterdir glob rglob walk mkdir unlink rmdir touch rename replace resolve absolute readlink chmod"
        " samefile owner group symlink_to hardlink_to expanduser",
    },
    "DUR204": {
        "os": "system popen fork forkpty execv execve execvp execvpe execl spawnl spawnv posix_spawn kill",
        "asyncio": "create_subprocess_exec create_subprocess_shell",
        "anyio": "run_process open_process",
    },
    "DUR205": {
        "asyncio": "to_thread run run_coroutine_threadsafe new_event_loop Runner",
        "anyio": "run",
        "anyio.to_thread": "run_sync",
        "anyio.from_thread": "run",
        "asgiref.sync": "sync_to_async async_to_sync",
        "signal": "signal",
    },
    "DUR206": {"durable": "Client", "durable.sync": "Client"},
    "DUR207": dict.fromkeys(
        _LOGGERS, "debug info warning warn error exception critical fatal log msg success"
    ),
    "DUR208": {"durable": "current_step"},
}

_EXACT: Mapping[str, str] = {
    f"{base}.{name}": code
    for code, bases in _NAMES.items()
    for base, names in bases.items()
    for name in names.split()
}

_WHOLE: Mapping[str, str] = {
    "secrets": "DUR104",
    "platform": "DUR105",
    "shutil": "DUR203",
    "tempfile": "DUR203",
    "subprocess": "DUR204",
    "pty": "DUR204",
    "threading": "DUR205",
    "_thread": "DUR205",
    "concurrent.futures": "DUR205",
    "multiprocessing": "DUR205",
    "durable.Client()": "DUR206",
    "durable.sync.Client()": "DUR206",
}
"""Modules and objects of which every call is forbidden."""

_FAR = (
    "socket ssl requests httpx aiohttp urllib.request urllib3 http.client smtplib imaplib poplib ftplib telnetlib"
    " xmlrpc.client websockets grpc paramiko sqlite3 psycopg psycopg2 psycopg_pool asyncpg aiosqlite pymongo motor"
    " pymysql aiomysql MySQLdb redis openai anthropic stripe boto3.client() boto3.resource()".split()
)
_MOSTLY: Mapping[str, str] = {
    "random": "DUR102",
    "numpy.random": "DUR102",
    **dict.fromkeys(_FAR, "DUR202"),
}
"""Modules whose functions are forbidden, and of their classes those of `_CONNECTING`."""

_CONNECTING = frozenset(
    "Session Client AsyncClient ClientSession PoolManager HTTPConnection HTTPSConnection SMTP SMTP_SSL FTP FTP_TLS"
    " IMAP4 IMAP4_SSL POP3 Redis StrictRedis MongoClient ConnectionPool AsyncConnectionPool OpenAI AsyncOpenAI"
    " Anthropic AsyncAnthropic SSHClient ServerProxy".split()
)

_PURE = (
    "requests.utils.",
    "requests.compat.",
    "aiohttp.web.",
    "socket.inet_",
    "socket.hton",
    "socket.ntoh",
)

_HARMLESS_WITH: Mapping[str, int] = {
    "time.localtime": 1,
    "time.gmtime": 1,
    "time.ctime": 1,
    "time.asctime": 1,
    "time.strftime": 2,
    "random.Random": 1,
    "numpy.random.RandomState": 1,
    "numpy.random.default_rng": 1,
}
"""Harmless with so many arguments: they convert a given time, or start from a given seed."""

_CALLERS: Mapping[str, int] = {
    "builtins.iter": 0,
    "collections.defaultdict": 0,
    "builtins.map": 1,
    "builtins.filter": 1,
}
"""They call their first argument, with so many arguments at least."""

_METHODS: Mapping[str, str] = {
    "run_in_executor": "DUR205",
    "call_soon_threadsafe": "DUR205",
    "add_signal_handler": "DUR205",
    "subprocess_exec": "DUR204",
    "subprocess_shell": "DUR204",
}
"""Methods of event loops, whoever has them: nobody else's are called so."""

READS: Mapping[str, str] = {"os.environ": "DUR105", "os.environb": "DUR105", "sys.argv": "DUR105"}
"""What must not even be looked at."""


def rule_of(name: str) -> str | None:
    """The rule that a call of this qualified name breaks; `x()` in it stands for an object made by `x`."""
    if name in _EXACT:
        return _EXACT[name]
    parts = name.split(".")
    last = parts[-1]
    if last.endswith(("Error", "Exception")) or name.startswith(_PURE):
        return None
    for length in range(len(parts) - 1, 0, -1):
        base = ".".join(parts[:length])
        if base in _WHOLE:
            return _WHOLE[base]
        if base in _MOSTLY and (not last[:1].isupper() or last in _CONNECTING):
            return _MOSTLY[base]
    return None


def rule_of_call(name: str | None, call: ast.Call) -> str | None:
    """The rule that this call, of this qualified name, breaks."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in _METHODS:
        return _METHODS[call.func.attr]
    if name is None:
        return None
    enough = _HARMLESS_WITH.get(name)
    if enough is not None and len(call.args) + len(call.keywords) >= enough:
        return None
    return rule_of(name)


def rule_of_callback(caller: str | None, name: str | None) -> str | None:
    """The rule that a call of `caller` breaks whose first argument is the function of this qualified name."""
    given = _CALLERS.get(caller or "")
    if given is None or name is None or _HARMLESS_WITH.get(name, given + 1) <= given:
        return None
    return rule_of(name)


def is_seeded(name: str) -> bool:
    """Whether this makes a generator that may be used where it was made from a seed."""
    return name in {"random.Random", "numpy.random.RandomState", "numpy.random.default_rng"}
