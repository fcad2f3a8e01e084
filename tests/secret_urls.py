"""Addresses with a password of two halves, in every shape that somebody may give it."""

from __future__ import annotations

HALVES = ("hunt3r", "s3cret")


def _password(between: str = "") -> str:
    return between.join(HALVES)


PW = _password()
# What may stand between the halves, raw or encoded.
BETWEEN = [
    *("", " ", "\t", "\n", "\u00a0", "\u3000", "@", "/", ":", "#", "?", "%", "&", ";", ",", "'", '"', "\\"),
    *("[", "]", "ü", "%20", "%40", "%2F%3A", "%zz", "+", "://", "@redis://", "=", "|", "$"),
    *("\x7f", "\u202e", "\u2100"),
]

REDIS = [
    *(f"redis://:{_password(between)}@127.0.0.1:1/0" for between in BETWEEN),
    f"redis://user:{_password(' ')}@127.0.0.1:1",
    f"redis://user:12/{PW}@127.0.0.1:1",
    f"redis://user:12#{PW}@127.0.0.1:1",
    f"redis://user:12 {PW}@127.0.0.1:1",
    f"redis://user%3A{PW}@127.0.0.1:1",
    f"redis://{PW}@127.0.0.1:1",
    f"redis://{PW}:@127.0.0.1:1",
    f"redis://127.0.0.1:1/0?password={PW}",
    f"redis://127.0.0.1:1/0?username=u&password={_password(' ')}&db=1",
    f"redis://127.0.0.1:1/0?password={_password('%20')}",
    f"redis://127.0.0.1:1/0?pass={PW}",
    f"redis://127.0.0.1:1/0?{PW}",
    f"redis://:{PW}",
    f"redis://:{PW}@127.0.0.1:99999",
    f"redis://:{PW}:127.0.0.1:1",
    f"redis:/:{PW}@127.0.0.1:1",
    f"redis//:{PW}@127.0.0.1:1",
    f" redis://:{PW}@127.0.0.1:1",
    f":{PW}@127.0.0.1:1",
    f"user:{PW}@127.0.0.1:1",
    f"REDIS://:{PW}@127.0.0.1:1/0",
    f"Rediss://:{_password(' ')}@127.0.0.1:1/0",
    f"rediss://u:{PW}@127.0.0.1:1/0?ssl_password={PW}",
    f"unix://u:{PW}@/nowhere/redis.sock?db=1",
    f"unix:///nowhere/redis.sock?password={PW}",
    f"redis+sentinel://u:{PW}@127.0.0.1:1,127.0.0.1:2/main?sentinel_password={PW}",
    f"redis+sentinel://u:{_password(' ')}@127.0.0.1:1/main",
    f"REDIS+SENTINEL://u:{PW}@127.0.0.1:1/main",
    f"amqp://guest:{PW}@127.0.0.1//",
]

MONGO = [
    *(f"mongodb://me:{_password(between)}@127.0.0.1:1/market" for between in BETWEEN),
    f"mongodb://me:{PW}@127.0.0.1:1,127.0.0.1:2/market?replicaSet=rs",
    f"mongodb://127.0.0.1:1,me:{PW}@127.0.0.1:2/market",
    f"mongodb://AKIA:{PW}@127.0.0.1:1/?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN%3A{PW}",
    f"mongodb://127.0.0.1:1/?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:{PW}",
    f"mongodb://127.0.0.1:1/?authmechanismproperties=SERVICE_NAME:x,AWS_SESSION_TOKEN%3A{_password('%2F')}",
    f"mongodb://127.0.0.1:1/?tls=true&tlsCertificateKeyFilePassword={PW}",
    f"mongodb://127.0.0.1:1/?proxyHost=p&proxyPassword={PW}",
    f"mongodb://127.0.0.1:1/?pass={PW}",
    f"mongodb://127.0.0.1:1/?w=1;password={PW}",
    f"mongodb://me:{PW}@%2Fnowhere%2Fmongodb.sock/market",
    f"mongodb://{PW}@127.0.0.1:1/market",
    f"mongodb+srv://me:{PW}@127.0.0.1:1/market",
    f"mongodb+srv://me:{_password(' ')}@cluster.invalid/market",
    f"MONGODB://me:{PW}@127.0.0.1:1/market",
    f"mongodb://me:{PW}@",
    f"me:{PW}@127.0.0.1:1/market",
]


# It stands where no password belongs: such an address is refused, and a text that holds it shows it.
MISPLACED = [
    ("redis.url", f"redis://127.0.0.1:1/{PW}"),
    ("redis.url", f"redis://127.0.0.1:1/0?socket_timeout={PW}"),
    ("mongo.url", f"mongodb://127.0.0.1:1/?socketTimeoutMS={PW}"),
]


def shown_halves(text: str) -> list[str]:
    """The halves of the password that the text shows."""
    return [half for half in HALVES if half in text]
