"""Table of dataset layouts by name; add one here to prepare another dataset."""

from __future__ import annotations

from cstl_edge.registry import Entry, Registry

LAYOUTS = Registry(
    "dataset layout",
    {
        "casia-b": Entry("cstl_edge.data.importing.layouts.published:CASIA_B"),
        "ou-mvlp": Entry("cstl_edge.data.importing.layouts.published:OU_MVLP"),
        "opengait-pkl": Entry("cstl_edge.data.importing.layouts.published:OPENGAIT_PKL"),
        "gait3d": Entry("cstl_edge.data.importing.layouts.published:GAIT3D"),
        "grew": Entry("cstl_edge.data.importing.layouts.published:GREW"),
        "folder": Entry("cstl_edge.data.importing.layouts.published:FOLDER", "plain folders"),
    },
)
"""Every entry is a `base.Layout`; `data prepare --dataset` takes its name."""
