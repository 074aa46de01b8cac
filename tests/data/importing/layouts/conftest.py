"""The datasets' trees without their files: layouts list folders and open nothing."""

import shutil

import pytest


def _fixture(name):
    def copy_folders(drawn, tmp_path):
        root = drawn(name)
        ignore = shutil.ignore_patterns("*.png", "*.pkl", "*.txt")
        return shutil.copytree(root, tmp_path / root.name, ignore=ignore)

    return pytest.fixture(name=name)(copy_folders)


casia_b, ou_mvlp, opengait, gait3d, grew, folders = map(
    _fixture, ("casia_b", "ou_mvlp", "opengait", "gait3d", "grew", "folders")
)
