"""Contrastive objectives as pure functions of embeddings, masks and weights."""

from __future__ import annotations

import torch
from torch import Tensor

from mmbind_train.config import LossOptions

TEMPERATURE = 0.07


def weighted_info_nce(
    z: Tensor,
    present: Tensor,
    weight: Tensor,
    *,
    temperature: float = TEMPERATURE,
    exclude: Tensor | None = None,
    options: LossOptions | None = None,
) -> Tensor:
    """Weighted multimodal InfoNCE over all ordered pairs of modalities of each row.

    The temperature divides the inner products; the options say how the equation is read.

    Parameters
    ----------
    z : Tensor, shape (B, M, F), float
        Embeddings of unit norm, one per row and modality.
    present : Tensor, shape (B, M), bool
        Whether the row really has the modality. Without ``dummy_views`` an absent embedding has
        no influence, whatever it holds.
    weight : Tensor, shape (B,), float
        Factor on all terms of an anchor row; it does not change the row's part as a negative.
    exclude : Tensor, shape (B, B), bool, optional
        ``exclude[i, j]``: row j is no negative of anchor row i. The diagonal is always excluded.

    Returns
    -------
    Tensor, shape (), float
        The loss. A term whose anchor has no negative is left out of the sum and of the count;
        without any term the loss is 0.

    Notes
    -----
    Source: MMBind paper, eq. 3. With `config.ARTEFACT` it is the supervised-contrastive form of the
    published code (UTD/UTD-acc-bind/train/shared_files/contrastive_design_3M_Weighted.py).

    Examples
    --------
    >>> z = torch.eye(2).unsqueeze(1).repeat(1, 2, 1)  # two rows, two modalities that agree
    >>> present = torch.ones(2, 2, dtype=torch.bool)
    >>> round(float(weighted_info_nce(z, present, torch.ones(2), temperature=1.0)), 3)
    -1.0
    """
    options = options or LossOptions()
    views = torch.ones_like(present) if options.dummy_views else present
    z = torch.where(views.unsqueeze(-1), z, torch.zeros_like(z))
    logits = torch.einsum("ipf,jqf->ipjq", z, z) / temperature
    negatives = _negatives(views, exclude)
    if options.denominator == "pair":
        terms, counted = _pair_terms(logits, views, negatives, options)
    else:
        terms, counted = _pooled_terms(logits, views, negatives, options)
    total = (torch.where(counted, terms, 0.0).sum(dim=(1, 2)) * weight).sum()
    return total if options.reduction == "sum" else total / counted.sum().clamp(min=1)


def soft_info_nce(
    z: Tensor,
    present: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    temperature: float | Tensor = TEMPERATURE,
    same_modality: bool = True,
    across: float = 0.0,
    exclude: Tensor | None = None,
) -> Tensor:
    """InfoNCE whose positives are shared among the rows that belong together.

    For anchor row i and modalities p, q the term is the cross entropy between the row's targets and
    the softmax of the similarities of z_i^p with z_j^q over all candidates j. A candidate is a row
    that has modality q and is not excluded; for p = q it is another row than i.

    A term counts as much as its largest target: where no candidate is likely a partner, the term
    abstains instead of pulling the row towards one that is likely wrong.

    Parameters
    ----------
    z : Tensor, shape (B, M, F), float
        Embeddings of unit norm; those of absent modalities have no influence, whatever they hold.
    present : Tensor, shape (B, M), bool
    weight : Tensor, shape (B,), float
        Factor on all terms of an anchor row.
    target : Tensor, shape (B, B), float
        ``target[i, j]``: probability that rows i and j belong together; 1 for the row itself.
    temperature : float or Tensor, shape ()
        Divides the inner products.
    same_modality : bool
        Whether the terms p = q count: rows that belong together also agree within a modality.
    across : float
        Factor on the terms whose anchor lacks q, which it meets in partners alone: they bind
        modalities that nobody recorded together.
    exclude : Tensor, shape (B, B), bool, optional
        ``exclude[i, j]``: row j, unless it is a target of row i, is no candidate of anchor row i.

    Returns
    -------
    Tensor, shape (), float
        Weighted mean over the terms. One whose anchor has no target, or a single candidate, is left
        out; without any term the loss is 0.

    Notes
    -----
    With ``target`` the identity, the terms p != q are eq. 3 of the paper with the positive in the
    denominator. With rows of one class as targets this is supervised contrast (Khosla et al. 2020,
    L_out); with probabilities it generalises the paper's single best match to several partners.

    Examples
    --------
    >>> z = torch.eye(2).unsqueeze(1).repeat(1, 2, 1)  # two rows, two modalities that agree
    >>> present = torch.ones(2, 2, dtype=torch.bool)
    >>> round(float(soft_info_nce(z, present, torch.ones(2), torch.eye(2), temperature=1.0)), 3)
    0.313
    """
    n_rows, n_modalities = present.shape
    z = torch.where(present.unsqueeze(-1), z, torch.zeros_like(z))
    logits = torch.einsum("ipf,jqf->ipqj", z, z) / temperature
    itself = torch.eye(n_rows, dtype=torch.bool, device=z.device)
    candidate = present.T.view(1, 1, n_modalities, n_rows)
    if exclude is not None:
        candidate = candidate & ~(exclude & ~itself & (target == 0)).view(n_rows, 1, 1, n_rows)
    same = torch.eye(n_modalities, dtype=torch.bool, device=z.device)
    candidate = candidate & ~(same.view(1, n_modalities, n_modalities, 1) & itself[:, None, None])
    share = torch.where(candidate, target[:, None, None].to(z.dtype), 0.0)
    total = share.sum(dim=-1)
    counted = present.unsqueeze(2) & (total > 0) & (candidate.sum(dim=-1) > 1)
    if not same_modality:
        counted = counted & ~same
    importance = share.amax(dim=-1) * torch.where(present.unsqueeze(1), 1.0, across)
    importance = torch.where(counted, importance, 0.0)
    # the sum of shares is 1, so the cross entropy is log_sum - expected logit
    expected = (share * logits).sum(dim=-1) / total.clamp(min=torch.finfo(z.dtype).tiny)
    terms = torch.where(importance > 0, _log_sum(logits, candidate) - expected, 0.0)
    summed = ((importance * terms).sum(dim=(1, 2)) * weight).sum()
    return summed / importance.sum().clamp(min=torch.finfo(z.dtype).tiny)


def _negatives(views: Tensor, exclude: Tensor | None) -> Tensor:
    """Mark as (B, B, M) bool whether modality q of row j is a negative of row i's views."""
    other = ~torch.eye(len(views), dtype=torch.bool, device=views.device)
    if exclude is not None:
        other = other & ~exclude
    return other.unsqueeze(-1) & views.unsqueeze(0)


def _log_sum(logits: Tensor, kept: Tensor) -> Tensor:
    """Log of the sum of exponentials over the last axis, over the kept entries only.

    Without any kept entry it is minus infinity; that term is not counted, and masked_fill keeps
    its gradient, which is NaN, away from the logits.
    """
    return logits.masked_fill(~kept, -torch.inf).logsumexp(dim=-1)


def _pair_terms(
    logits: Tensor, views: Tensor, negatives: Tensor, options: LossOptions
) -> tuple[Tensor, Tensor]:
    """Terms (B, M, M) of eq. 3 for anchor i, modalities p and q, and which of them count."""
    n_modalities = views.shape[1]
    by_pair = logits.permute(0, 1, 3, 2)  # i, p, q, j
    kept = negatives.permute(0, 2, 1).unsqueeze(1).expand_as(by_pair)
    positive = torch.einsum("ipiq->ipq", logits)
    counted = views.unsqueeze(2) & views.unsqueeze(1) & kept.any(dim=-1)
    if not options.same_modality_negatives:
        counted = counted & ~torch.eye(n_modalities, dtype=torch.bool, device=views.device)
    if options.positive_in_denominator:
        by_pair = torch.cat([by_pair, positive.unsqueeze(-1)], dim=-1)
        kept = torch.cat([kept, torch.ones_like(kept[..., :1])], dim=-1)
    return _log_sum(by_pair, kept) - positive, counted


def _pooled_terms(
    logits: Tensor, views: Tensor, negatives: Tensor, options: LossOptions
) -> tuple[Tensor, Tensor]:
    """Terms (B, M, M) whose denominator runs over the views of all modalities at once."""
    n_rows, n_modalities = views.shape
    same = torch.eye(n_modalities, dtype=torch.bool, device=views.device)
    kept = negatives.unsqueeze(1).expand_as(logits)
    if not options.same_modality_negatives:
        kept = kept & ~same.view(1, n_modalities, 1, n_modalities)
    positive = torch.einsum("ipiq->ipq", logits)
    is_pair = views.unsqueeze(2) & views.unsqueeze(1) & ~same
    pool, pool_kept = logits.flatten(2), kept.flatten(2)
    counted = is_pair & pool_kept.any(dim=-1, keepdim=True)
    if options.positive_in_denominator:
        pool = torch.cat([pool, positive], dim=-1)
        pool_kept = torch.cat([pool_kept, is_pair], dim=-1)
    log_sum = _log_sum(pool, pool_kept).view(n_rows, n_modalities, 1)
    return log_sum - positive, counted
