# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How Kypello is installed.
"""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="kypello",
    version="0.1.0",
    description="An S3-compatible object server whose encryption can be proved.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The Kypello authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords="S3 object storage encryption KMS KES SSE Twisted",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Topic :: Security :: Cryptography",
        "Topic :: System :: Archiving",
    ],
    python_requires=">=3.11",
    # An editable install then puts this folder on the path, where Twisted looks for plugins.
    package_dir={"": "."},
    # Twisted finds plugins in the package twisted.plugins, which has no __init__.py here.
    packages=[*find_packages(include=["kypello", "kypello.*"]), "twisted.plugins"],
    install_requires=[
        "attrs>=24.2",
        "awscrt>=0.31",
        "cryptography>=46",
        "ldaptor>=21.2",
        "msgspec>=0.19",
        "PyJWT>=2.10",
        "pyOpenSSL>=25.3",
        "PyYAML>=6.0.2",
        "service-identity>=24.2",
        "treq>=25.5",
        "Twisted>=25.5",
        "zope.interface>=7.2",
    ],
    extras_require={
        "archives": ["backports.zstd>=1.0", "lz4>=4.4"],
        "demo": ["boto3>=1.40"],
        "test": [
            "boto3>=1.40",
            "minio>=7.2",
            "awscli>=1.42",
            "hypothesis>=6.130",
            "oidc-provider-mock>=0.3",
            "prometheus-client>=0.20",
            "backports.zstd>=1.0",
            "lz4>=4.4",
        ],
        "check": [
            "import-linter>=2.3",
            "mypy>=1.18",
            "mypy-zope>=1.0.14",
            "ruff>=0.14",
            "towncrier>=24.8",
            "types-PyYAML",
        ],
    },
    entry_points={"console_scripts": ["kypello = kypello.cli:main"]},
)
