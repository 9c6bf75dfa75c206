"""HTTP/2: the names that the layers above use. Server, client and pool have a file each."""

from gateway.transport.http2_call import ClientResult, ClientStream, Http2ClientConfig, Http2Unavailable
from gateway.transport.http2_client import Http2Client
from gateway.transport.http2_pool import Http2Pool
from gateway.transport.http2_server import Http2Server
from gateway.transport.http2_stream import Http2Handler, ServerStream
from gateway.transport.limits import Http2Limits

__all__ = [
    "ClientResult",
    "ClientStream",
    "Http2Client",
    "Http2ClientConfig",
    "Http2Handler",
    "Http2Limits",
    "Http2Pool",
    "Http2Server",
    "Http2Unavailable",
    "ServerStream",
]
