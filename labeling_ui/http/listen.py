"""Where the server listens, and who could read along there."""

import ipaddress
import socket

from rlhf.errors import ConfigError


def check_exposure(host: str, *, behind_proxy: bool, insecure_http: bool) -> None:
    """Refuse an address that others can reach while passwords would cross the network in clear.

    Raises:
        ConfigError: naming the two ways out.
    """
    if not (behind_proxy or insecure_http or _is_loopback(host)):
        raise ConfigError(
            f"listening on {host} would send passwords over the network in clear text; give "
            "--behind-proxy if a proxy that speaks TLS stands before it, or --insecure-http if "
            "everybody on that network may read along"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections already.

    Raises:
        ConfigError: if the address cannot be had.
    """
    if not 0 <= port <= 65_535:
        raise ConfigError(f"--port: {port} is no port; name one from 1 to 65535, or 0 for any")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ConfigError(f"--host: {host!r} is no name or address; mend it") from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's delay (40 ms per answer) off.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host} port {port} ({error.strerror}); name another with --port"
        ) from error
    listener.listen(2048)  # who reads our first line may connect at once
    return listener
