//! The integration tests, in one binary; its modules mirror `src`.

mod imports;
