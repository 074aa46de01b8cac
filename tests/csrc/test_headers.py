"""Search for TensorRT headers: accepted trees, and errors with the next step.

Only cmake is needed: the file that looks for headers runs by itself as well.
"""

import shutil
import subprocess

import pytest

from cstl_edge.runtime.tensorrt import plugin

OLD = "#define NV_TENSORRT_MAJOR {} //!< TensorRT major version.\n#define NV_TENSORRT_MINOR {}\n"
NEW = "#define TRT_MAJOR_ENTERPRISE {}\n#define TRT_MINOR_ENTERPRISE {}\n"  # since 10.13
NEW += "#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE\n"
NEW += "#define NV_TENSORRT_MINOR TRT_MINOR_ENTERPRISE\n"


@pytest.fixture
def checkout(tmp_path):
    """Return what makes a tree like that of NVIDIA's public repository at a tag."""

    def make(version, text=OLD, include="include"):
        headers = tmp_path / include
        headers.mkdir(parents=True)
        (headers / "NvInferRuntime.h").touch()
        (headers / "NvInferVersion.h").write_text(text.format(*version.split(".")[:2]))
        (tmp_path / "VERSION").write_text(f"{version}\n")
        return tmp_path

    return make


def look(root, wanted="ON"):
    """Return the exit code and the words of the search for headers, on one line."""
    if shutil.which("cmake") is None:
        pytest.skip("looking for headers needs cmake, which is not on this machine")
    settings = [f"-DTensorRT_ROOT={root}", f"-DCSTL_EDGE_PLUGIN={wanted}"]
    command = ["cmake", *settings, "-P", str(plugin.SOURCES / "tensorrt_headers.cmake")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("version", "text", "message"),
    [
        ("10.3.0.26", OLD, "TensorRT 10.3: headers in {root}/include"),
        ("10.16.0.72", NEW, "TensorRT 10.16: headers in {root}/include"),
        ("11.1.0.106", NEW, "built for TensorRT 11"),
    ],
)
def test_a_checkout_serves(checkout, version, text, message):
    root = checkout(version, text)
    code, output = look(root)
    assert code == 0, output
    assert message.format(root=root) in output


def test_headers_of_another_tag_than_the_checkout_says(checkout):
    root = checkout("10.3.0.26")
    (root / "VERSION").write_text("10.30.0.1\n")
    code, output = look(root)
    assert code != 0
    assert f"expected the headers of TensorRT 10.30.0.1, as {root}/VERSION says" in output
    assert "are of 10.3. Check the whole tag out again" in output


def test_an_archive_has_no_version_file(checkout):
    root = checkout("10.3.0.26")
    (root / "VERSION").unlink()
    assert look(root)[0] == 0


@pytest.mark.parametrize("version", ["8.6.1.6", "10.2.0.19"])
def test_headers_that_are_too_old(checkout, version):
    code, output = look(checkout(version))
    shown = ".".join(version.split(".")[:2])
    assert code != 0
    assert f"expected TensorRT's headers, 10.3 or newer; found {shown}. Install" in output


def test_headers_without_a_version_are_refused(checkout):
    root = checkout("10.3.0.26", text="// {} {}\n")
    code, output = look(root)
    assert code != 0
    assert f"expected a version in {root}/include/NvInferVersion.h" in output


def test_folder_without_headers_gets_a_download_hint(tmp_path):
    code, output = look(tmp_path)
    assert code != 0
    assert f"expected NvInferRuntime.h in {tmp_path}/include; it is not there" in output
    assert "github.com/NVIDIA/TensorRT" in output
    assert "v10.3.0" in output


def test_default_build_leaves_out_the_plugin_with_a_warning(checkout):
    code, output = look(checkout("10.2.0.19"), wanted="AUTO")
    assert code == 0
    assert "left out, only the kernel library is built: expected TensorRT's headers" in output


def test_kernel_alone_needs_no_headers(tmp_path):
    code, output = look(tmp_path / "nowhere", wanted="OFF")
    assert code == 0
    assert "not wanted, only the kernel library is built" in output
