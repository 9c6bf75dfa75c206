"""Bytes on sockets: HTTP/1.1 and HTTP/2. Knows headers and streams, nothing of inference."""
