"""Task sets: directories of tasks, with databases of their own, that stand beside tau2's domains.

A set is `tasks.jsonl` (one tau2 Task per line), its databases, `verified.jsonl` once it was verified, and
`manifest.json`, which names the set, its tau2 domain, its splits and the sha256 of every file. Options take a set where
they take a domain: by its path, or by its name once it is open (`openings`).
"""
