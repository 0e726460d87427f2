"""Why a connection failed, in words: no path, no address but the host's, no class of an exception."""

import asyncio
import errno
import os
import socket
import ssl

import aiohttp

_SHORT = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset by peer",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network is unreachable",
    errno.EPIPE: "connection reset by peer",
}


def words(error: BaseException) -> str:
    """The reason that lies deepest in a chain of exceptions and can be told."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 10:
        chain.append(cause)
    return next((text for each in reversed(chain) if (text := _told(each))), "the connection broke")


def _told(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and not isinstance(error, aiohttp.ClientError):
        reason = (error.reason or "handshake failed").replace("_", " ").lower()
        return "the server speaks no TLS" if reason == "wrong version number" else f"tls: {reason}"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, aiohttp.ClientPayloadError | asyncio.IncompleteReadError):
        return "unexpected EOF"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(error, aiohttp.InvalidURL):
        return "an address that is none"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientResponseError):
        return "an answer that is no HTTP"
    if isinstance(error, OSError) and error.errno:
        return _SHORT.get(error.errno, os.strerror(error.errno).lower())
    return ""
