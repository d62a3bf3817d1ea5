//! A look-alike of the ACS identity service for tests, demos and CI.
