"""A request's bytes in, an answer's bytes out: REST, gRPC on our own transport, gRPC on grpcio."""
