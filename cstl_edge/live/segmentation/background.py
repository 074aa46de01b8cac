"""Background-subtraction segmenter (no weights).

The background model of a recording is learned from samples of it; a camera's comes from a rolling
window of samples and is renewed a few rows per frame, so that no frame waits for it. A difference
counts when it exceeds the pixel's own noise, in luma or in chroma; darker pixels that keep their
hue are shadow. Works at no more than 432 rows (the working scale): masks keep that scale, boxes are
in the frame's pixels.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Floats, Image, Mask
from cstl_edge.live.boxes import Box, mask_area
from cstl_edge.live.clothes import clothes_of
from cstl_edge.live.segmentation.background_model import (
    OCCUPIED_WEIGHT,
    Pixels,
    Weights,
    estimate_background,
    noise_map,
    occupied_weights,
    revise_background,
)
from cstl_edge.live.segmentation.base import Detection, DrawPeople, SceneState
from cstl_edge.live.segmentation.blobs import (
    Blob,
    Part,
    candidates,
    clean_foreground,
    mean_colours,
)
from cstl_edge.live.segmentation.shadows import shadow_mask
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

log = logging.getLogger(__name__)

MAX_ROWS = 432  # rows worked at: a person of a third of the picture still fills 128 of them
LUMA_STEP, CHROMA_STEP = 14, 8  # differences of 0..255 that count on a pixel that never flickers
NOISE_GAIN = 3.0  # times the pixel's mean flicker, added to the steps
SURE_HEIGHT_SHARE = 0.09  # of the frame's height: smaller blobs start no track
STRONG = 1.8  # times the threshold: a component must partly reach it
DISTURBED_SHARE, SETTLED_SHARE = 0.45, 0.30  # of the picture in the foreground
RELEARN_AFTER_S = 2.0  # a disturbance that stays is the new scene
LEARN_THREADS = 2  # samples at once in which people are drawn, most of them one crop
WINDOW = 24  # samples of the rolling background
FIRST_SAMPLES = 8  # before that there is no background
FAST_SAMPLE_S, SLOW_SAMPLE_S = 0.25, 2.0  # spacing while the window fills, and later
PAIR_GAP_S = 0.1  # between the two frames of a pair that measures flicker
BAND_ROWS = 32  # rows of the background renewed per frame
DRIFT_EVERY, DRIFT_RATE = 5, 0.04  # frames; share of the light's slow change that is followed


def open_background(threads: int) -> BackgroundSegmenter:
    """Return the segmenter for the table of `open`; it works in the thread that calls it."""
    return BackgroundSegmenter()


@dataclass(frozen=True)
class _Look:
    """What differs from the scene in a frame, before anybody is expected there."""

    image: Image
    pixels: Pixels  # at the working scale
    share: float  # of the picture in the foreground
    foreground: Mask
    parts: list[Part]


class BackgroundSegmenter:
    """Finds candidate persons as differences from a model of the empty scene."""

    def __init__(self) -> None:
        self._noise: Pixels | None = None
        self._following: Image | None = None
        self._early: Future[_Look] | None = None  # the look at the frame that comes next
        self._helper: ThreadPoolExecutor | None = None  # that looks
        self._looks_at_once = True
        self._reset()

    @property
    def state(self) -> SceneState:
        """State of the background model."""
        known = SceneState.READY if self._disturbed_since is None else SceneState.DISTURBED
        return SceneState.LEARNING if self._background is None else known

    def learn(
        self,
        samples: Iterable[tuple[Image, Image]],
        *,
        rolling: bool = False,
        draw: DrawPeople | None = None,
    ) -> None:
        """Learn the background from a recording, as `Segmenter.learn` describes.

        Args:
            samples: Pairs of frames a moment apart, spread over the recording.
            rolling: Whether to keep renewing the model.
            draw: Function that returns the mask of people in a sample, so that whoever stands
                through most of the recording is not learned as background.
        """
        pairs = [(self._prepare(a), self._prepare(b)) for a, b in samples]
        if not pairs:
            return
        stills = [before for before, _ in pairs]
        self._noise = noise_map(pairs)
        first = estimate_background(stills, threads=LEARN_THREADS)
        self._set_background(first)
        weights = self._weights(stills, draw)
        self._set_background(revise_background(first, stills, weights, LEARN_THREADS))
        self._rolling = rolling

    def _weights(self, stills: Sequence[Pixels], draw: DrawPeople | None) -> list[Weights]:
        """Return the weight of each sample at each pixel: small where people are."""
        foreground, drawn = list[list[Box]](), list[Future[Mask]]()
        with ThreadPoolExecutor(LEARN_THREADS) as pool:
            for still in stills:
                foreground.append([blob.box for blob in self._blobs(still)])
                if draw is not None:
                    drawn.append(pool.submit(_drawn, draw, still, foreground[-1]))
            weights = occupied_weights(foreground, stills[0].shape[:2])
        for weight, people in zip(weights, drawn, strict=False):
            weight[people.result() > 0] = OCCUPIED_WEIGHT
        return weights

    def segment(self, image: Image, time_s: float, expected: Sequence[Box] = ()) -> list[Detection]:
        """Return the people of one frame, none unless the state is READY.

        Args:
            image: uint8 [H, W, 3], BGR.
            time_s: Media time of the frame in seconds; does not run backwards.
            expected: Boxes that the tracker predicts for this frame.
        """
        look = self._early_look(image)
        pixels = look.pixels if look is not None else self._prepare(image)
        blobs = self._blobs(pixels, expected, look) if self._background is not None else []
        self._update_state(time_s)
        if self._rolling:
            self._collect_sample(pixels, time_s, blobs)
        if self.state is not SceneState.READY:
            return []
        self._follow_light(pixels, [blob.box for blob in blobs])
        if self._looks_at_once:
            self.look_ahead()
        return [self._detection(blob, pixels) for blob in blobs]

    def ahead(self, image: Image, *, at_once: bool = True) -> None:
        """Take the picture of the frame after the next one that is segmented.

        A thread looks for what differs in it when the model of the scene is what it will be then,
        as soon as the next one is segmented; not `at_once`: when `look_ahead` is called.
        """
        self._helper = self._helper or ThreadPoolExecutor(1, "cstl-edge-look")
        self._following, self._looks_at_once = image, at_once

    def look_ahead(self) -> None:
        """Begin to look at the frame that comes next, where it is there and of the same size."""
        image, self._following = self._following, None
        if image is None or self._helper is None or self.state is not SceneState.READY:
            return
        if image.shape == self._size:
            self._early = self._helper.submit(self._look, image, None)

    def relearn(self) -> None:
        """Forget the scene and learn another one, as a camera does at the start."""
        self._reset()

    def _reset(self) -> None:
        self._early_look(None)
        self._following = None
        self._size: tuple[int, ...] | None = None
        self._scale = 1.0  # working pixels per frame pixel
        self._background: Pixels | None = None
        self._precise: Floats | None = None
        self._noise = None
        self._weak_steps: Pixels | None = None  # differences that count
        self._strong_steps: Pixels | None = None  # and those that are sure
        self._foreground: Mask | None = None
        self._share = 0.0
        self._disturbed_since: float | None = None
        self._rolling = True
        self._window: deque[tuple[Pixels, Pixels, Weights]] = deque(maxlen=WINDOW)
        self._half_pair: tuple[float, Pixels, Weights] | None = None
        self._next_sample_s = -np.inf
        self._band = 0  # the first row to renew next
        self._stale_rows = 0  # that the newest sample has not renewed yet
        self._frames = 0

    def _prepare(self, image: Image) -> Pixels:
        """Return a frame in YCrCb at the working scale; a new frame size resets the model."""
        if self._size != image.shape:
            if self._size is not None:
                log.warning("frame size changed from %s to %s", self._size[:2], image.shape[:2])
            self._reset()
            self._size = image.shape
            self._scale = min(1.0, MAX_ROWS / image.shape[0])
        return _working_pixels(image, self._scale)

    def _set_background(self, background: Pixels) -> None:
        """Take a background, and the noise of all rows."""
        self._background = background
        self._precise = background.astype(np.float32)
        noise = self._noise if self._noise is not None else np.zeros_like(background)
        self._weak_steps = np.empty_like(background)
        self._strong_steps = np.empty_like(background)
        self._set_steps(slice(None), noise)

    def _set_steps(self, rows: slice, noise: Pixels) -> None:
        """Set the differences that count in some rows, from their noise."""
        assert self._weak_steps is not None
        assert self._strong_steps is not None
        steps = (LUMA_STEP, CHROMA_STEP, CHROMA_STEP)
        planes = zip(steps, cv2.split(noise), strict=True)
        weak = cv2.merge([cv2.convertScaleAbs(n, alpha=NOISE_GAIN, beta=s) for s, n in planes])
        self._weak_steps[rows] = weak
        self._strong_steps[rows] = cv2.convertScaleAbs(weak, alpha=STRONG)

    def _early_look(self, image: Image | None) -> _Look | None:
        """Return what was found ahead, once it is there; None where that was another picture."""
        early, self._early = self._early, None
        look = early.result() if early is not None else None
        return look if look is not None and look.image is image else None

    def _look(self, image: Image, pixels: Pixels | None) -> _Look:
        """Look for what differs from the scene; changes nothing.

        Args:
            image: The frame.
            pixels: The same at the working scale, where that is done.
        """
        if pixels is None:
            pixels = _working_pixels(image, self._scale)
        weak, strong = self._differences(self._normalise_exposure(pixels))
        share = mask_area(weak) / weak.size
        found = (weak, []) if share > DISTURBED_SHARE else clean_foreground(weak, strong)
        return _Look(image, pixels, share, *found)

    def _blobs(
        self, pixels: Pixels, expected: Sequence[Box] = (), look: _Look | None = None
    ) -> list[Blob]:
        """Return the candidates of a frame.

        Args:
            pixels: The frame at the working scale.
            expected: Boxes that the tracker predicts, in pixels of the frame.
            look: What differs in it, where that is known.
        """
        look = look or self._look(pixels, pixels)
        self._share, self._foreground = look.share, look.foreground
        if look.share > DISTURBED_SHARE:
            return []
        k = self._scale
        boxes = [(x * k, y * k, w * k, h * k) for x, y, w, h in expected]
        return candidates(look.foreground, boxes, look.parts)

    def _normalise_exposure(self, pixels: Pixels) -> Pixels:
        """Divide by the change of exposure: the median ratio of luma where nobody was seen."""
        assert self._background is not None
        luma, background = pixels[::8, ::8, 0], self._background[::8, ::8, 0]
        usable = (background > 20) & (background < 235) & (luma < 250)
        if self._foreground is not None:
            usable &= self._foreground[::8, ::8] == 0
        if np.count_nonzero(usable) < 0.1 * usable.size:
            return pixels
        gain = float(np.median(luma[usable] / background[usable].astype(np.float32)))
        if not 0.5 < gain < 2 or abs(gain - 1) < 0.02:
            return pixels
        scaled: Pixels = pixels.copy()
        scaled[:, :, 0] = cv2.convertScaleAbs(pixels[:, :, 0], alpha=1 / gain)
        return scaled

    def _differences(self, pixels: Pixels) -> tuple[Mask, Mask]:
        """Return weak and strong foreground [h, w], shadows taken out of both."""
        assert self._background is not None
        assert self._strong_steps is not None
        difference = cv2.absdiff(pixels, self._background)
        weak = _any_plane(cv2.compare(difference, self._weak_steps, cv2.CMP_GT))
        strong = np.zeros_like(weak)
        x, y, w, h = cv2.boundingRect(weak)
        if w:  # what is strong is weak as well
            place = np.s_[y : y + h, x : x + w]
            steps = self._strong_steps[place]
            strong[place] = _any_plane(cv2.compare(difference[place], steps, cv2.CMP_GT))
        lit: Mask = ~shadow_mask(pixels, self._background, weak)
        return weak & lit, strong & lit

    def _update_state(self, time_s: float) -> None:
        """Notice a moving camera or a change of light, and when it is over."""
        if self._background is None:
            return
        if self._disturbed_since is None:
            if self._share > DISTURBED_SHARE:
                self._disturbed_since = time_s
                log.warning("%.0f %% of the picture changed at once", 100 * self._share)
        elif self._share < SETTLED_SHARE:
            self._disturbed_since = None
        elif self._rolling and time_s - self._disturbed_since > RELEARN_AFTER_S:
            log.warning("learning the scene again")
            self._reset()

    def _collect_sample(self, pixels: Pixels, time_s: float, blobs: Sequence[Blob]) -> None:
        """Collect samples; renew a band of rows until the newest sample is in all of them."""
        if self._half_pair is not None and time_s - self._half_pair[0] >= PAIR_GAP_S:
            _, before, weights = self._half_pair
            self._window.append((before, pixels, weights))
            self._half_pair, self._stale_rows = None, pixels.shape[0]
        if self._half_pair is None and time_s >= self._next_sample_s:
            boxes = [blob.box for blob in blobs]
            self._half_pair = (time_s, pixels, occupied_weights([boxes], pixels.shape[:2])[0])
            full = len(self._window) == WINDOW
            self._next_sample_s = time_s + (SLOW_SAMPLE_S if full else FAST_SAMPLE_S)
        if self._stale_rows <= 0 or len(self._window) < FIRST_SAMPLES:
            return
        first, last = 0, pixels.shape[0]
        if self._background is not None:
            first, last = self._band, min(self._band + BAND_ROWS, last)
        self._renew_rows(first, last)
        self._band = last % pixels.shape[0]
        self._stale_rows -= last - first

    def _renew_rows(self, first: int, last: int) -> None:
        """Estimate rows `first` to `last` of the background and of its noise again."""
        rows = slice(first, last)
        window = [(a[rows], b[rows], w[rows]) for a, b, w in self._window]
        band = estimate_background([a for a, _, _ in window], [w for _, _, w in window])
        noise = noise_map([(a, b) for a, b, _ in window])
        if self._background is None or self._noise is None:
            self._noise = noise
            self._set_background(band)
            return
        assert self._precise is not None
        self._background[rows], self._noise[rows], self._precise[rows] = band, noise, band
        self._set_steps(rows, noise)

    def _follow_light(self, pixels: Pixels, boxes: Sequence[tuple[int, int, int, int]]) -> None:
        """Let the background follow slow changes of light where nobody is."""
        self._frames += 1
        if self._frames % DRIFT_EVERY or self._foreground is None or self._precise is None:
            return
        nobody = cv2.bitwise_not(cv2.dilate(self._foreground, np.ones((9, 9), np.uint8)))
        for x, y, w, h in boxes:  # with the parts of people that do not differ from the background
            nobody[max(0, y - h // 8) : y + h + h // 8, max(0, x - w // 4) : x + w + w // 4] = 0
        cv2.accumulateWeighted(pixels, self._precise, DRIFT_RATE, mask=nobody)
        self._background = cv2.convertScaleAbs(self._precise)

    def _detection(self, blob: Blob, pixels: Pixels) -> Detection:
        assert self._size is not None
        x, y, w, h = (v / self._scale for v in blob.box)
        filled = mask_area(blob.mask) / blob.mask.size
        tall = blob.box[3] >= max(blob.box[2], SURE_HEIGHT_SHARE * self._size[0] * self._scale)
        score = (1.0 if tall else 0.4) * (1.0 if 0.2 < filled < 0.9 else 0.4)
        left, top, width, height = blob.box
        person = pixels[top : top + height, left : left + width]
        return Detection(
            (x, y, w, h),
            blob.mask,
            blob.clipped,
            score,
            blob.shared,
            mean_colours(pixels, blob),
            clothes_of(person, blob.mask),
        )


def _working_pixels(image: Image, scale: float) -> Pixels:
    """Return a frame in YCrCb at the working scale."""
    smaller = _shrink(image, scale) if scale < 1 else image
    return np.asarray(cv2.cvtColor(smaller, cv2.COLOR_BGR2YCrCb), np.uint8)


def _shrink(image: Image, scale: float) -> Image:
    """Return a picture at a smaller scale: halved by means, the rest of the way interpolated."""
    width, height = (max(1, round(n * scale)) for n in image.shape[1::-1])
    while image.shape[0] >= 2 * height:  # a mean of 2 x 2 costs a fifth of one of 2.4 x 2.4
        half = image.shape[1] // 2, image.shape[0] // 2
        image = cv2.resize(image[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA)
    smaller: Image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return smaller


def _any_plane(picture: Pixels) -> Mask:
    """Return 255 where one of three planes is: uint8 [h, w]."""
    first, second, third = cv2.split(picture)
    cv2.bitwise_or(first, second, dst=first)
    mask: Mask = cv2.bitwise_or(first, third, dst=first)
    return mask


def _drawn(draw: DrawPeople, still: Pixels, boxes: Sequence[Box]) -> Mask:
    """Return the mask of the people in the boxes of a sample."""
    return draw(np.asarray(cv2.cvtColor(still, cv2.COLOR_YCrCb2BGR), np.uint8), boxes)
