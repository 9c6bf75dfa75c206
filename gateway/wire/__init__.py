"""Pure codecs between bytes and nouns: JSON, the binary tensor extension, protobuf, gRPC frames, the error table."""
