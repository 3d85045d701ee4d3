"""Where artifacts come from: the registry, S3, a directory. `fetch.fetch` is the way in."""
