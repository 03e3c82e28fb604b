//! The integration tests: one binary, whose modules mirror `src`.

mod grpc;
