"""The documents of a published bundle."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import Field

from mmbind_data.spec.descriptor import DatasetId, Licence, Model, Verdict

BUNDLE_SPEC = "mmbind-bundle"
VERSION = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$"


class Permission(Model):
    """A permission of the owner of a source beyond its licence."""

    source: str = Field(min_length=1, description="a source id of the bound store, or a dataset id")
    granted_by: str = Field(min_length=1, description="who granted it")
    date: datetime.date
    text: str = Field(min_length=1, description="the words of the permission")
    licence: str | None = Field(
        default=None, description="SPDX id under which adapted data may be passed on, if named"
    )


class BundleSource(Model):
    """The rights of one source of a bundle."""

    source_id: str
    dataset_id: DatasetId
    dataset_version: str
    licence: Licence
    verdict: Verdict = Field(description="that decided: the licence's, or the permission's")
    permission: str | None = Field(default=None, description="path of the permission, if any")


class BundleInfo(Model):
    """``bundle.json``: describes a published folder. Spec, tool and data are versioned apart."""

    spec: Literal["mmbind-bundle"] = "mmbind-bundle"
    spec_version: Literal["1.0"] = "1.0"
    tool_version: str = Field(description="the mmbind that published it")
    data_version: str = Field(
        pattern=VERSION,
        description="PATCH: the same content; MINOR: rows added; MAJOR: rows changed or gone",
    )
    name: str
    mode: Literal["index-only", "self-contained"]
    store: str = Field(description="path of the bound store within the bundle")
    content_digest: str = Field(description="of the bound store, in any mode")
    licence: str = Field(description="SPDX id, or LicenseRef-sources: see LICENSES")
    share_alike: bool
    non_commercial: bool
    attribution: bool
    encoder: bool = Field(description="whether the encoder's weights are in it")
    sources: tuple[BundleSource, ...]


class ManifestEntry(Model):
    """One file of a store."""

    path: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Model):
    """``meta/MANIFEST.json``: every file of a store except itself and SHA256SUMS."""

    spec: Literal["mmbind-manifest"] = "mmbind-manifest"
    spec_version: Literal["1.0"] = "1.0"
    files: tuple[ManifestEntry, ...]
    tree_sha256: str = Field(description="sha256 over the lines '<sha256>  <path>' in path order")
