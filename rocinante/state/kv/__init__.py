"""The key-value store with etcd v3's semantics."""
