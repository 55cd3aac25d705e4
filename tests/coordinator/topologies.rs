//! The same coordinator behind Sentinels and over a Redis Cluster.
