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
    license="Apache-2.0",
    python_requires=">=3.11",
    # Twisted finds plugins in the package twisted.plugins, which has no __init__.py here.
    packages=[*find_packages(include=["kypello", "kypello.*"]), "twisted.plugins"],
    package_data={"twisted": ["plugins/kypello_plugin.py"]},
    install_requires=[
        "attrs>=24.2",
        "awscrt>=0.27",
        "cryptography>=46",
        "defusedxml>=0.7.1",
        "msgspec>=0.19",
        "pyOpenSSL>=25.3",
        "PyYAML>=6.0.2",
        "service-identity>=24.2",
        "treq>=25.5",
        "Twisted>=25.5",
        "zope.interface>=7.2",
    ],
    extras_require={
        "test": ["boto3>=1.40", "minio>=7.2", "awscli>=1.42", "hypothesis>=6.130"],
        "check": [
            "import-linter>=2.3",
            "mypy>=1.18",
            "mypy-zope>=1.0.14",
            "ruff>=0.14",
            "types-PyYAML",
        ],
    },
    entry_points={"console_scripts": ["kypello = kypello.cli:main"]},
)
