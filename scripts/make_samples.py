#!/usr/bin/env python3
"""Make `samples/`: a short video and a few stills of faces with and without a mask, for tests and first trials.

Why: the photographs the network is trained on may not be redistributed, but a checkout must be able to show the
program at work and test it. So this script starts from two portraits in the public domain that PyPI packages ship
(NASA's of Eileen Collins, the US Navy's of Grace Hopper), draws masks on them, takes the sitter out of one for an
empty scene, and films the results with a slowly swaying virtual camera. `samples/README.md` names the sources.

Usage: make_samples.py [--out DIR]   (needs the packages in samples-requirements.txt, and gst-launch-1.0)

Photographs are only read as files; their packages are never imported. Every random number has a fixed seed.
Coordinates in the tables below were measured by hand, in pixels of the original photograph (x right, y down).
"""
import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import tempfile
import wave
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline, LinearNDInterpolator
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

WIDTH, HEIGHT, FPS = 640, 480, 15
AUDIO_HZ = 44_100
SUPERSAMPLE = 4  # outlines are drawn this much larger, then averaged down


@dataclass(frozen=True)
class Photo:
    """A portrait inside an installed package, and how to look at it."""
    package: str
    path: str
    sha256: str
    scale: int             # the plate (the working copy) is this many times larger than the photograph
    view: tuple            # centre x, centre y and height of what the camera sees
    light: tuple           # direction towards the light: right, down, towards the camera
    tint: tuple            # colour of white cloth in this photograph's light


@dataclass(frozen=True)
class Mask:
    """A mask's outline on one photograph (four splines, corners shared), its loops and its cloth."""
    top: tuple             # left to right, along the upper edge
    bottom: tuple          # left to right, along the lower edge
    left: tuple            # between the two left corners, downwards
    right: tuple           # between the two right corners, downwards
    loops: tuple           # ear loops, each from the mask to where ear or hair hides it
    albedo: tuple          # linear reflectance, red green blue
    loop_albedo: tuple
    loop_px: float         # width of a loop
    pleats: tuple = ()     # (v in the middle, v at the sides) of each horizontal fold
    seam: float = 0.0      # strength of a vertical seam in the middle
    sheen: float = 0.0     # light that grazing cloth adds, for dark cloth
    over: tuple = ()       # strokes of the photograph that stay in front (spectacle rims)


PHOTOS = {
    "collins": Photo("skimage", "data/astronaut.png",
                     "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
                     3, (226, 110, 194), (-0.25, -0.55, 0.8), (1.0, 0.97, 0.95)),
    "hopper": Photo("matplotlib", "mpl-data/sample_data/grace_hopper.jpg",
                    "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
                    2, (268, 222, 288), (0.2, -0.5, 0.85), (0.99, 0.98, 0.97)),
}

SPECTACLES = (
    ((258, 193), (255, 205), (249, 217), (240, 226), (228, 231), (215, 230), (203, 223), (195, 211), (190, 199)),
    ((274, 193), (278, 205), (284, 217), (293, 226), (304, 231), (317, 229), (330, 221), (338, 208), (342, 197)),
)

MASKS = {
    ("collins", "surgical"): Mask(
        top=((182, 119), (192, 120), (204, 118), (214, 112.5), (225, 109), (236, 113), (247, 120), (259, 123.5),
             (270, 123)),
        bottom=((188, 158), (196, 168.5), (207, 177.5), (223, 182.5), (239, 179), (251, 170), (261, 158)),
        left=((183.5, 132), (185.5, 146)), right=((268.5, 136), (265.5, 148)),
        loops=(((184, 120.5), (181.5, 118), (178, 114)), ((188.5, 157), (185.5, 146), (183, 137), (181, 130)),
               ((268.5, 124.5), (271, 121), (273, 116)), ((260.5, 157), (265, 147), (267.5, 140), (269.5, 134))),
        albedo=(0.42, 0.64, 0.76), loop_albedo=(0.85, 0.86, 0.88), loop_px=1.3,
        pleats=((0.27, 0.34), (0.49, 0.50), (0.71, 0.66))),
    ("collins", "cloth"): Mask(
        top=((180, 116), (190, 120), (203, 118.5), (214, 112), (225, 108), (236, 112.5), (248, 120.5), (261, 124),
             (272, 120)),
        bottom=((183, 145), (193, 164), (206, 177), (223, 183), (240, 178.5), (254, 165), (266, 147)),
        left=((181.5, 126), (182.5, 136)), right=((270.5, 129), (268, 139)),
        loops=(((182.5, 119), (179, 116), (176, 111)), ((184.5, 143), (182.5, 136), (180.5, 129)),
               ((269.5, 123), (272, 119), (274, 113)), ((266, 144), (268.5, 138), (270.5, 132))),
        albedo=(0.022, 0.022, 0.025), loop_albedo=(0.022, 0.022, 0.025), loop_px=2.2, seam=0.7, sheen=0.05),
    ("hopper", "ffp2"): Mask(
        top=((189, 236), (205, 234), (224, 229), (243, 219), (256, 208), (266, 205), (276, 208), (289, 219), (308, 229),
             (327, 233), (344, 233)),
        bottom=((197, 272), (208, 300), (226, 325), (248, 341), (268, 346), (288, 340), (308, 323), (325, 298),
                (337, 270)),
        left=((191, 248), (193.5, 260)), right=((342.5, 246), (340.5, 258)),
        loops=(((191, 238), (187, 222), (184, 206), (182, 186)), ((197, 269), (191, 266.5), (185, 262)),
               ((342, 236), (345, 221), (348, 206), (351, 186)), ((337, 268), (343, 265.5), (349, 261))),
        albedo=(0.93, 0.93, 0.92), loop_albedo=(0.88, 0.88, 0.87), loop_px=2.2, seam=1.0, over=SPECTACLES),
}

# What hides the studio in the NASA portrait, with a margin: sitter, suit, and the flag at the left edge.
SITTER = ((0, 0), (140, 0), (190, 8), (250, 4), (296, 30), (312, 70), (312, 110), (296, 142), (312, 168), (318, 200),
          (330, 232), (352, 262), (362, 300), (362, 512), (0, 512))

# (seconds from, to, label, plate): plates are "photo", "photo/mask" or "empty".
PHASES = (
    (0, 4, "no_mask", "collins"),
    (4, 8, "mask", "collins/surgical"),
    (8, 10, "background", "empty"),
    (10, 13, "mask", "hopper/ffp2"),
    (13, 16, "no_mask", "hopper"),
)
STILLS = {
    "collins_no_mask.jpg": "collins", "collins_surgical.jpg": "collins/surgical", "collins_cloth.jpg": "collins/cloth",
    "hopper_no_mask.jpg": "hopper", "hopper_ffp2.jpg": "hopper/ffp2", "empty_studio.jpg": "empty",
}
EMPTY_VIEW = (343, 145, 232)


def load(photo):
    """The photograph enlarged to its plate: float array H x W x 3 in 0..1, gamma-encoded. Checks its SHA-256."""
    package = importlib.util.find_spec(photo.package)
    if package is None:
        raise SystemExit(f"{photo.package} is not installed: pip install --no-deps -r scripts/samples-requirements.txt")
    data = Path(package.origin).parent / photo.path
    if hashlib.sha256(data.read_bytes()).hexdigest() != photo.sha256:
        raise SystemExit(f"{data} is not the photograph this script was written for")
    image = Image.open(data).convert("RGB")
    size = (image.width * photo.scale, image.height * photo.scale)
    return np.asarray(image.resize(size, Image.LANCZOS), np.float32) / 255


def spline(points, count):
    """`count` points of the natural cubic spline through `points`, evenly spaced in chord length."""
    points = np.asarray(points, float)
    chord = np.r_[0, np.cumsum(np.hypot(*np.diff(points, axis=0).T))]
    return CubicSpline(chord, points, bc_type="natural")(np.linspace(0, chord[-1], count))


def raster(shape, draw):
    """Coverage 0..1 of what `draw(ImageDraw, factor)` paints, anti-aliased by supersampling."""
    height, width = shape
    big = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE))
    draw(ImageDraw.Draw(big), SUPERSAMPLE)
    return np.asarray(big.resize((width, height), Image.BOX), np.float32) / 255


def stroke(shape, points, width, fade=0.0):
    """Coverage of a round-ended line of `width` pixels along `points`; its last share `fade` sinks from sight."""
    def draw(pen, factor):
        radius = width * factor / 2
        for i, (x, y) in enumerate(spline(points, 400) * factor):
            ink = int(255 * min(1, (400 - i) / (400 * fade + 1)))
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    return raster(shape, draw)


def noise(shape, sigma, seed):
    """Gaussian noise smoothed by `sigma` (pixels, one number or one an axis), unit variance."""
    rough = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    smooth = gaussian_filter(rough, sigma)
    return smooth / smooth.std()


def cloth_coordinates(mask, scale, origin, shape):
    """u (-1 left .. 1 right) and v (0 top .. 1 bottom) of each pixel, NaN off the cloth; and the outline (Coons)."""
    n = 121
    top, bottom = spline(mask.top, n), spline(mask.bottom, n)
    left = spline((mask.top[0], *mask.left, mask.bottom[0]), n)
    right = spline((mask.top[-1], *mask.right, mask.bottom[-1]), n)
    s = np.linspace(0, 1, n)
    u, v = (a[..., None] for a in np.meshgrid(s, s))
    corners = (1 - u) * (1 - v) * top[0] + u * (1 - v) * top[-1] + (1 - u) * v * bottom[0] + u * v * bottom[-1]
    patch = (1 - v) * top[None] + v * bottom[None] + (1 - u) * left[:, None] + u * right[:, None] - corners
    outline = np.vstack([top, right, bottom[::-1], left[::-1]]) * scale - origin
    inverse = LinearNDInterpolator((patch * scale - origin).reshape(-1, 2),
                                   np.concatenate([2 * u - 1, v], -1).reshape(-1, 2))
    yy, xx = np.mgrid[:shape[0], :shape[1]]
    uv = inverse(np.stack([xx, yy], -1).reshape(-1, 2)).reshape(*shape, 2)
    return uv[..., 0], uv[..., 1], outline


def shade(mask, photo, u, v, width):
    """How bright each pixel of the cloth is (1 = facing the light): relief and lighting, folds, hems, wrinkles."""
    # Relief in plate pixels: the round of the face, the nose holding the cloth up, the chin turning under.
    across = np.sqrt(np.clip(1 - (0.93 * u) ** 2, 0.02, 1))
    relief = 0.40 * across + 0.10 * np.exp(-(u / 0.20) ** 2 - ((v - 0.22) / 0.34) ** 2)
    relief += 0.05 * np.exp(-(u / 0.45) ** 2 - ((v - 0.72) / 0.2) ** 2) - 0.16 * np.clip(v - 0.72, 0, 1) ** 2 * 4
    relief -= 0.11 * mask.seam * np.abs(u) ** 0.9 * np.sin(np.pi * np.clip(v, 0, 1))  # two panels that meet in a ridge
    at = np.stack([np.clip(v, 0, 1) * 199, np.clip(u + 1, 0, 2) * 99.5])
    wrinkles = 0.6 * noise((200, 200), (5, 16), 1) + 0.4 * noise((200, 200), (3, 7), 2)
    relief += map_coordinates(wrinkles, at, order=1) * 0.0055 * (0.35 + np.abs(u) ** 1.5)
    relief = gaussian_filter(relief, width * 0.006) * width
    down, right = np.gradient(relief)
    normal = np.stack([-right, -down, np.ones_like(down)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = np.array(photo.light) / np.linalg.norm(photo.light)
    bright = 0.30 + 0.70 * np.clip(normal @ light, 0, None) / light[2]

    for middle, side in mask.pleats:  # each fold overlaps the cloth below it: lit edge above, shadow beneath
        d = v - (middle + (side - middle) * u ** 2)
        strength = 1 - 0.45 * u ** 4
        below, depth = 1 / (1 + np.exp(-np.clip(d / 0.004, -50, 50))), np.abs(d)
        bright *= 1 - strength * below * (0.46 * np.exp(-depth / 0.022) + 0.14 * np.exp(-depth / 0.08))
        bright *= 1 + strength * (1 - below) * 0.07 * np.exp(-depth / 0.02)
    if mask.seam:
        bright *= 1 + mask.seam * (0.06 * np.exp(-((u - 0.03) / 0.02) ** 2) - 0.20 * np.exp(-(u / 0.012) ** 2))
    for edge, depth in ((v, 0.075), (1 - v, 0.05), (1 - np.abs(u), 0.07)):  # hems; the upper one holds the nose wire
        bright *= 1 - 0.11 * np.exp(-((edge - depth) / 0.010) ** 2) + 0.035 * (edge < depth)
    return bright


def wear(plate, photo, mask):
    """The plate with the mask on: contact shadow, loops, shaded cloth, then whatever stays in front of it."""
    scale = photo.scale
    points = np.array(mask.top + mask.bottom + tuple(p for loop in mask.loops for p in loop)) * scale
    pad = 14 * scale
    x0, y0 = (points.min(0) - pad).astype(int)
    x1, y1 = (points.max(0) + pad).astype(int)
    window = plate[y0:y1, x0:x1].astype(np.float32)
    shape, origin = window.shape[:2], np.array([x0, y0])

    def line(curve, width_px, fade=0.0):
        return stroke(shape, np.asarray(curve) * scale - origin, width_px * scale, fade)

    u, v, outline = cloth_coordinates(mask, scale, origin, shape)
    nearest = distance_transform_edt(np.isnan(u), return_distances=False, return_indices=True)
    u, v = u[tuple(nearest)], v[tuple(nearest)]
    width = np.ptp(outline[:, 0])
    alpha = raster(shape, lambda pen, factor: pen.polygon([tuple(p) for p in outline * factor], fill=255))

    # Cloth takes the light of the face under it (blurred until no feature is left) besides its own shading.
    luma = gaussian_filter((window ** 2.2) @ np.float32([0.21, 0.72, 0.07]) * alpha, width * 0.10)
    luma /= np.maximum(gaussian_filter(alpha, width * 0.10), 1e-3)
    bright = shade(mask, photo, u, v, width) * np.clip(luma / luma[alpha > 0.5].mean(), 0.4, 1.6) ** 0.40
    inside = distance_transform_edt(alpha > 0.5)
    bright *= 1 - 0.16 * np.exp(-inside / (0.010 * width))            # the edge turns away
    bright *= 1 + 0.012 * noise(shape, 0.35 * scale, 3) + 0.012 * noise(shape, 0.9 * scale, 4)  # fibres
    tint = np.float32(photo.tint) ** 2.2
    cloth = bright[..., None] * np.float32(mask.albedo) * tint
    cloth += mask.sheen * np.clip(bright - 0.55, 0, 1)[..., None] * tint

    linear = window ** 2.2
    cast = gaussian_filter(alpha, 0.022 * width)
    cast = np.roll(cast, (round(0.016 * width), -round(0.006 * width * np.sign(photo.light[0]))), (0, 1))
    linear *= (1 - 0.42 * cast)[..., None]
    for loop in mask.loops:
        whole, core = line(loop, mask.loop_px, 0.35), line(loop, mask.loop_px * 0.55, 0.35)
        linear *= (1 - 0.35 * np.roll(gaussian_filter(whole, 0.7 * scale), scale, 0))[..., None]
        thread = (0.50 + 0.30 * core)[..., None] * np.float32(mask.loop_albedo) * tint
        linear += gaussian_filter(whole, 0.3 * scale)[..., None] * (thread - linear)
    soft = gaussian_filter(alpha, 0.40 * scale)[..., None]             # as soft as the photograph's own edges
    cloth = gaussian_filter(cloth, (0.40 * scale, 0.40 * scale, 0))
    linear += soft * (cloth - linear)
    result = np.clip(linear, 0, 1) ** (1 / 2.2)
    for rim in mask.over:
        front = gaussian_filter(line(rim, 3.6), 0.4 * scale)[..., None]
        result += front * (window - result)
    out = plate.copy()
    out[y0:y1, x0:x1] = result
    return out


def without_sitter(plate, scale):
    """The studio alone: the sitter's area is filled from the backdrop around it, coarse to fine, then mottled alike."""
    def sitter(pen, factor):
        pen.polygon([(x * scale * factor, y * scale * factor) for x, y in SITTER], fill=255)
    height, width = plate.shape[:2]
    cover = raster((height, width), sitter)
    small = plate[scale // 2::scale, scale // 2::scale]                  # at the photograph's own size: fast enough
    known = cover[scale // 2::scale, scale // 2::scale] == 0
    known[:, 352:] = False                                              # the shuttle must not bleed into the backdrop
    known = known[..., None]
    fill = small.mean((0, 1), where=known)
    for sigma in (96, 64, 40, 24, 14, 8, 5, 3, 2, 1):
        for _ in range(8):
            fill = gaussian_filter(np.where(known, small, fill), (sigma, sigma, 0))
    mottle = 0.010 * noise(known.shape, (26, 26, 0), 5) + 0.006 * noise(known.shape, (9, 9, 0), 6)
    fill = np.clip(fill + mottle + 0.004 * noise(known.shape, (0.7, 0.7, 0), 7), 0, 1)
    big = [np.asarray(Image.fromarray(fill[..., c]).resize((width, height), Image.BICUBIC)) for c in range(3)]
    return plate + gaussian_filter(cover, 2.5 * scale)[..., None] * (np.stack(big, -1) - plate)


def plates():
    """All the plates by name, each as (8-bit picture, its view in plate pixels)."""
    made = {}
    for name, photo in PHOTOS.items():
        made[name] = load(photo), photo
        for (sitter, style), mask in MASKS.items():
            if sitter == name:
                made[f"{name}/{style}"] = wear(made[name][0], photo, mask), photo
    plate, studio = made["collins"]
    made["empty"] = without_sitter(plate, studio.scale), replace(studio, view=EMPTY_VIEW)
    return {name: (Image.fromarray((np.clip(plate, 0, 1) * 255 + 0.5).astype(np.uint8)),
                   np.array(photo.view) * photo.scale) for name, (plate, photo) in made.items()}


def shoot(plate, t=None, still=0):
    """What the camera sees of a plate: at rest (a still), or hand-held at `t` seconds in a slowly changing light."""
    picture, (x, y, height) = plate
    angle, zoom, gain = 0.0, 0.0, 1.0
    if t is not None:
        x += height * 0.010 * (np.sin(0.9 * t) + 0.5 * np.sin(2.3 * t + 1))
        y += height * 0.007 * (np.sin(1.1 * t + 2) + 0.5 * np.sin(2.9 * t))
        angle = np.radians(1.1 * np.sin(0.7 * t + 0.5) + 0.25 * np.sin(3.1 * t))
        zoom = 0.025 * np.sin(0.55 * t)
        gain = 1 + 0.025 * np.sin(1.7 * t) + 0.01 * np.sin(4.3 * t)
    step = height * (1 + zoom) / HEIGHT
    a, b = step * np.cos(angle), -step * np.sin(angle)
    affine = (a, b, x - a * WIDTH / 2 - b * HEIGHT / 2, -b, a, y + b * WIDTH / 2 - a * HEIGHT / 2)
    frame = np.asarray(picture.transform((WIDTH, HEIGHT), Image.AFFINE, affine, Image.BICUBIC), np.float32) * gain
    seed = still if t is None else 1000 + round(t * FPS)
    grain = np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH, 1)).astype(np.float32)
    return np.clip(frame + 1.6 * grain + 0.5, 0, 255).astype(np.uint8)


def write_chimes(path):
    """A soft two-tone chime at the start of every phase, over silence, as a 16-bit mono WAV file."""
    t = np.arange(PHASES[-1][1] * AUDIO_HZ) / AUDIO_HZ
    sound = np.zeros_like(t)
    for start, _, label, _ in PHASES:
        since = np.clip(t - start - 0.05, 0, None)
        base = {"mask": 660.0, "no_mask": 440.0, "background": 330.0}[label]
        for tone, level in ((base, 1.0), (base * 1.5, 0.5)):
            sound += 0.06 * level * np.sin(2 * np.pi * tone * since) * np.exp(-4 * since) * np.minimum(1, since / 0.01)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, AUDIO_HZ, 0, "NONE", ""))
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def write_video(made, path):
    """Film the phases and encode them with GStreamer: H.264 (yuv420p) and AAC in an MP4 that starts fast."""
    pipeline = (
        f"fdsrc fd=0 blocksize={WIDTH * HEIGHT * 3} ! rawvideoparse format=rgb width={WIDTH} height={HEIGHT} "
        f"framerate={FPS}/1 ! videoconvert ! video/x-raw,format=I420,colorimetry=bt601 ! x264enc pass=quant "
        f"quantizer=23 speed-preset=slow key-int-max={4 * FPS} bframes=0 threads=1 ! video/x-h264,profile=high "
        "! h264parse ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 ! mux. "
        "filesrc location=chimes.wav ! wavparse ! audioconvert ! avenc_aac bitrate=48000 ! aacparse ! queue ! mux. "
        "mp4mux name=mux faststart=true ! filesink location=video.mp4")
    with tempfile.TemporaryDirectory() as folder:
        write_chimes(Path(folder) / "chimes.wav")
        encoder = subprocess.Popen(["gst-launch-1.0", "-q", *pipeline.split()], stdin=subprocess.PIPE, cwd=folder)
        try:
            for start, end, _, plate in PHASES:
                for index in range(start * FPS, end * FPS):
                    encoder.stdin.write(shoot(made[plate], index / FPS).tobytes())
            encoder.stdin.close()
        except BrokenPipeError:
            pass  # gst-launch has stopped, and has said why
        if encoder.wait() != 0:
            raise SystemExit("gst-launch-1.0 failed; see its message above")
        shutil.copyfile(Path(folder) / "video.mp4", path)


def main():
    """Write the stills, `phases.csv` and the video into the folder asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("samples"), help="folder to write to (default: samples)")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    made = plates()
    for number, (name, plate) in enumerate(STILLS.items()):
        Image.fromarray(shoot(made[plate], still=number)).save(out / name, quality=90)
    rows = "".join(f"{start},{end},{label}\n" for start, end, label, _ in PHASES)
    (out / "phases.csv").write_text("start_s,end_s,label\n" + rows)
    write_video(made, out / "mask_on_off.mp4")


if __name__ == "__main__":
    main()
