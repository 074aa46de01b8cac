"""The site: one strict YAML file that says what the service watches, keeps and tells whom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, model_validator

from cstl_edge.config import Problem, StrictModel, problems_of, read_yaml
from cstl_edge.errors import ConfigError, CstlEdgeError, one_line
from cstl_edge.gallery.server_address import is_server
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER, SEGMENTERS
from cstl_edge.live.sources.open import source_kind
from cstl_edge.serve.outputs.settings import OutputsSettings
from cstl_edge.serve.schedule import parse_span
from cstl_edge.serve.web.settings import PageSettings
from cstl_edge.silhouette import MIN_HEIGHT_PX

MAX_CAMERAS = 64
CAMERA_NAME = r"^[a-z0-9][a-z0-9_-]{0,39}$"  # it stands in topics, addresses and file names


def _is_segmenter(name: str) -> str:
    try:
        return SEGMENTERS.canonical(name)
    except CstlEdgeError as err:
        raise ValueError(err.message) from err


def _is_source(address: str) -> str:
    try:
        source_kind(address.partition("?")[0])
    except CstlEdgeError as err:
        raise ValueError(err.message) from err
    return address


def _is_span(text: str) -> str:
    parse_span(text)
    return text


Segmenter = Annotated[str, AfterValidator(_is_segmenter)]
Share = Annotated[float, Field(ge=0, le=1)]


class Zone(StrictModel):
    """A part of a camera's picture."""

    name: Annotated[str, Field(pattern=CAMERA_NAME)]
    """Name, which stands in events."""
    polygon: Annotated[tuple[tuple[Share, Share], ...], Field(min_length=3, max_length=64)]
    """Corners as shares of the picture's width and height, from the top left: [0.5, 1.0] is the
    middle of its lower edge."""
    use: Literal["look", "ignore"] = "look"
    """`look`: people count whose feet are in this or another `look` zone; `ignore`: people do not
    count whose feet are in it."""


class Orientation(StrictModel):
    """How a camera hangs."""

    rotate: Literal[0, 90, 180, 270] = 0
    """Degrees by which pictures are turned clockwise."""
    flip: Literal["h", "v"] | None = None
    """Mirror pictures: h exchanges left and right, v top and bottom."""


class CameraSettings(StrictModel):
    """One camera."""

    source: Annotated[str, AfterValidator(_is_source), Field(min_length=1, max_length=2000)]
    """Address: rtsp://{CAM1}@HOST/PATH, a USB camera (0), csi://0, a video file, synthetic://4.
    `{CAM1}` stands for USER:PASSWORD in the environment or in the credentials file."""
    title: Annotated[str, Field(max_length=80)] = ""
    """Name for people; by default the camera's name."""
    enabled: bool = True
    """False to leave the camera alone."""
    orientation: Orientation = Orientation()
    """How the camera hangs."""
    fps: float | None = Field(default=None, ge=1, le=60)
    """Frames per second that are looked at, at most; null for what the camera sends, up to 30."""
    segmenter: Segmenter | None = None
    """How people are separated from the background; null for the site's."""
    zones: tuple[Zone, ...] = ()
    """Parts of the picture to look at or to ignore."""
    min_height_px: int = Field(default=MIN_HEIGHT_PX, ge=16, le=4000)
    """Least height of a person in the picture [pixels]."""
    schedule: tuple[Annotated[str, AfterValidator(_is_span)], ...] = ()
    """When it is looked at, in the machine's time: `mon-fri 07:00-19:00`, `sat,sun 00:00-24:00`;
    always where none is given."""
    fpir: float | None = Field(default=None, gt=0, lt=1)
    """How often a stranger may be given a name, 0..1; null for the site's."""
    threshold: float | None = Field(default=None, gt=0)
    """Distance below which a name is given, in place of the one for `fpir`."""
    first_picture_s: float = Field(default=60.0, ge=1, le=3600)
    """Seconds to wait for the first picture after opening; cameras sleep."""
    next_picture_s: float = Field(default=20.0, ge=1, le=3600)
    """Seconds to wait for the next picture before the camera is opened again."""
    memory_mb: int = Field(default=1500, ge=200, le=65536)
    """Memory beyond which the camera's process is started again [MiB]."""

    @model_validator(mode="after")
    def _check(self) -> CameraSettings:
        if self.fpir is not None and self.threshold is not None:
            raise ValueError("fpir and threshold are both given; leave one out")
        names = [zone.name for zone in self.zones]
        if len(names) != len(set(names)):
            raise ValueError("two zones have the same name")
        return self


class UnknownsSettings(StrictModel):
    """Whether strangers are kept, to be named later."""

    enabled: bool = False
    """True to keep templates of people who did not consent, and to group their visits."""
    days: float = Field(default=7.0, gt=0, le=3650)
    """Days after the last visit until a stranger is erased."""


class SnapshotsSettings(StrictModel):
    """Pictures of visits."""

    enabled: bool = True
    """One picture of each visit, and a strip of its silhouettes."""
    days: float = Field(default=7.0, gt=0, le=3650)
    """Days until they are erased."""


class ClipsSettings(StrictModel):
    """Videos of visits."""

    enabled: bool = False
    """A short video of each visit."""
    days: float = Field(default=3.0, gt=0, le=3650)
    """Days until they are erased."""
    before_s: float = Field(default=3.0, ge=0, le=30)
    """Seconds before the visit's first frame."""
    max_s: float = Field(default=30.0, ge=1, le=120)
    """Length at most [s]; the worker keeps as much in memory."""


class KeepSettings(StrictModel):
    """What is kept, and for how long."""

    events_days: float = Field(default=30.0, gt=0, le=3650)
    """Days that events and visits are kept."""
    unknowns: UnknownsSettings = UnknownsSettings()
    """Whether strangers are kept."""
    snapshots: SnapshotsSettings = SnapshotsSettings()
    """Pictures of visits."""
    clips: ClipsSettings = ClipsSettings()
    """Videos of visits."""
    max_gb: float = Field(default=10.0, gt=0, le=100_000)
    """Size of all that is kept beyond which the oldest goes [GB]."""
    min_free_gb: float = Field(default=1.0, ge=0, le=100_000)
    """Free space of the disk below which the oldest goes [GB]."""


class RecogniserSettings(StrictModel):
    """The process that owns model and gallery."""

    backend: str = "auto"
    """What runs the network: auto, onnxruntime, tensorrt, openvino, …"""
    memory_mb: int = Field(default=3000, ge=300, le=262_144)
    """Memory beyond which it is started again [MiB]."""


class Site(StrictModel):
    """Everything that `cstl-edge serve` runs."""

    name: Annotated[str, Field(min_length=1, max_length=80)] = "cstl-edge"
    """Name of the installation, shown by page and outputs."""
    data: Path = Path("data")
    """Folder of events, pictures, logins and the gallery; relative paths of the whole file count
    from the file's folder."""
    model: Path | None = None
    """Exported folder or checkpoint; null for the shipped model."""
    gallery: str | None = None
    """SQLite file of the enrolled people, or postgresql:// address of a server; null for gallery.db
    in `data`."""
    cameras: dict[Annotated[str, Field(pattern=CAMERA_NAME)], CameraSettings] = Field(
        default={}, max_length=MAX_CAMERAS
    )
    """Cameras by name: small letters, digits, - and _."""
    segmenter: Segmenter = DEFAULT_SEGMENTER
    """How people are separated from the background, where a camera says nothing else."""
    fpir: float = Field(default=0.01, gt=0, lt=1)
    """How often a stranger may be given a name, where a camera says nothing else."""
    recogniser: RecogniserSettings = RecogniserSettings()
    """The process that owns model and gallery."""
    keep: KeepSettings = KeepSettings()
    """What is kept, and for how long."""
    page: PageSettings = PageSettings()
    """Where the page listens, and who may come in."""
    outputs: OutputsSettings = OutputsSettings()
    """To whom events are told: MQTT, webhooks, metrics."""

    _path: Path | None = PrivateAttr(None)

    @property
    def path(self) -> Path | None:
        """The file that it was read from."""
        return self._path

    @property
    def gallery_path(self) -> Path | str:
        """File of the enrolled people, or their address on a server."""
        if self.gallery is not None and is_server(self.gallery):
            return self.gallery
        return Path(self.gallery) if self.gallery else self.data / "gallery.db"

    @property
    def spool(self) -> Path:
        """Folder of clips on their way from a worker to the recogniser."""
        return self.data / "spool"

    def camera_title(self, name: str) -> str:
        """Return the name of a camera for people."""
        camera = self.cameras.get(name)
        return (camera.title if camera is not None else "") or name

    @model_validator(mode="after")
    def _check(self) -> Site:
        for user in self.page.users:
            unknown = set(user.cameras or ()) - set(self.cameras)
            if unknown:
                raise ValueError(
                    f"page.users: {user.name} may see cameras that there are not: "
                    f"{', '.join(sorted(unknown))}"
                )
        return self


def load_site(path: str | Path) -> Site:
    """Read a site's file; raises ConfigError with its first fault, by file and line."""
    site, problems = check_site(path)
    if site is None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ConfigError(
            f"{where(path, first)}: {first.message}{more}",
            remedy=f"correct it; `cstl-edge config check {one_line(path)}` lists everything",
        )
    return site


def check_site(path: str | Path) -> tuple[Site | None, list[Problem]]:
    """Read a site's file; return it and no problems, or None and everything that is wrong.

    Raises:
        ConfigError: The file cannot be read, or is no YAML.
    """
    place = Path(path)
    return site_of(read_yaml(place), place, place.read_text(encoding="utf-8"))


def site_of(values: Mapping[str, Any], place: Path, text: str) -> tuple[Site | None, list[Problem]]:
    """Return the site of a file's values, or None and everything that is wrong with them.

    Args:
        values: The file's mapping.
        place: The file, from whose folder relative paths count.
        text: The file's text, for the lines.
    """
    try:
        site = Site.model_validate(values)
    except ValidationError as err:
        return None, problems_of(Site, err, text)
    site = _absolute(site, place.absolute().parent)
    site._path = place.absolute()
    return site, []


def where(path: str | Path, problem: Problem) -> str:
    """Return file and line of a problem."""
    return f"{one_line(path)}{f':{problem.line}' if problem.line else ''}"


def _absolute(site: Site, folder: Path) -> Site:
    """Return the site with every relative path counted from a folder."""
    cameras = {
        name: camera.model_copy(update={"source": str(folder / camera.source)})
        if source_kind(camera.source.partition("?")[0]) == "file"
        else camera
        for name, camera in site.cameras.items()
    }
    gallery = site.gallery
    if gallery is not None and not is_server(gallery):
        gallery = str(folder / Path(gallery).expanduser())
    moved: Site = _moved(site, folder)
    return moved.model_copy(update={"cameras": cameras, "gallery": gallery})


def _moved(value: Any, folder: Path) -> Any:
    """Return a value of a configuration with its relative paths moved."""
    if isinstance(value, Path):
        return folder / value.expanduser()
    if isinstance(value, StrictModel):
        changed = {name: _moved(getattr(value, name), folder) for name in type(value).model_fields}
        return value.model_copy(update=changed)
    if isinstance(value, tuple):
        return tuple(_moved(item, folder) for item in value)
    if isinstance(value, dict):
        return {key: _moved(item, folder) for key, item in value.items()}
    return value
