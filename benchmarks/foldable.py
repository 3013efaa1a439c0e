"""An independent rule for which BatchNorms can be folded exactly: the fold is acted out.

Nothing here knows which operations let a scale through, or reads a traced graph. A model is run
with hooks that do to a layer's output (or input) what a fold would do to its parameters, and a
BatchNorm counts as foldable when the whole model, without it, still gives the same outputs on
fresh inputs in float64. So a positive answer is a proof by construction, and the candidates come
from measurement:

- `u -> g * u + h` per channel on the outputs of the layers before it (backward): which channels
  of the BatchNorm each layer's channel reaches is measured by moving it, with the outputs of all
  layers held at their recorded values, so that only direct ways count; g is then the scale of the
  channels that are reached, h the least-squares solution for the shift;
- `x -> g * x` on the inputs of the layers after it and `u -> u + h` on their outputs (forward),
  with g and h measured likewise;
- one layer beside it gets the BatchNorm as an identity kernel (sideways).

Layers are convolutions, transposed convolutions, linear layers and other BatchNorms, as modules;
samples of a batch must not depend on each other, and float64 parameters are expected. Each
BatchNorm is judged with the others in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

if __package__ in (None, ""):
    from reach import Effect, Recorded, measure_reach
else:
    from benchmarks.reach import Effect, Recorded, measure_reach

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONSUMERS = (
    *_CONVOLUTIONS,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Atom = tuple[str, int]
"""One output channel of a layer."""
Outputs = list[Tensor]
Hook = Callable[[nn.Module, int, Tensor, Tensor], Tensor]
"""From a layer, the number of the call, its input and its output to the output to use."""


def foldable(model: nn.Module, example: Tensor) -> dict[str, str]:
    """Return the BatchNorms that can be removed exactly, each with the way that shows it.

    `model` is in eval mode, in float64, with hooks of its own nowhere; `example` has one sample.
    """
    found = _ways(model, example, None)
    return found and _ways(_calmed(model, example), example, set(found))


def _ways(model: nn.Module, example: Tensor, asked: set[str] | None) -> dict[str, str]:
    """Return the BatchNorms, of those asked for, that can be removed, each with the way."""
    layers = {
        name: module
        for name, module in model.named_modules()
        if type(module) in _CONSUMERS or type(module) in _NORMS
    }
    norms = {name: module for name, module in layers.items() if type(module) in _NORMS}
    generator = torch.Generator().manual_seed(7)
    shape = (3, *example.shape[1:])
    fresh = torch.randn(shape, generator=generator, dtype=example.dtype) * 2
    probe = _Probe(model, layers, example, fresh)
    found = {}
    for name, norm in norms.items():
        if name not in probe.inputs or (asked is not None and name not in asked):
            continue
        for way in (probe.backward, probe.forward, probe.sideways):
            if way(norm):
                found[name] = way.__name__
                break
    return found


def _calmed(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy whose BatchNorms have opposite shifts, and outputs of moderate size.

    What is right with one only is right by where values lie: between two rectifiers, a shift down
    may as well come before the first, and a shift up after the second; far out a sigmoid or tanh
    gives the same whatever it is given; and what passes a few small scales in a row is lost beside
    the other channels, right or wrong. Signs of scales, shifts and scales that are zero, and which
    channels of a BatchNorm are alike stay as they are.
    """
    changed = copy.deepcopy(model)
    done = set()

    def calm(norm: nn.Module, arguments: Any) -> None:
        if norm in done:
            return
        done.add(norm)
        scale, shift = scale_and_shift(norm)
        aim = 0.5 + 0.618 * len(done) % 1  # each another one: a scale of -1 undoes itself
        moderate = _evened(scale) * (aim / _moments(arguments[0], 1)[1].max())
        size = shift.abs().max()
        wanted = shift * (-0.5 / size if size > 0 else 0.0)
        with torch.no_grad():
            ratio = torch.where(scale == 0, 1.0, scale / moderate)
            norm.running_var.copy_((norm.running_var + norm.eps) * ratio**2 - norm.eps)
            norm.running_mean.zero_()
            if norm.bias is not None:
                norm.bias.copy_(wanted)
            else:
                norm.running_mean.copy_(-wanted / moderate)

    norms = [module for module in changed.modules() if type(module) in _NORMS]
    handles = [norm.register_forward_pre_hook(calm) for norm in norms]
    _run(changed, example)
    for handle in handles:
        handle.remove()
    return changed


def _evened(scale: Tensor) -> Tensor:
    """Return scales from 1/2 to 1 in the same order, with the same signs; zeros and equals stay."""
    sizes = scale.abs().sort().values
    larger = torch.cat([torch.zeros(1), (sizes.diff() > 1e-9 * sizes[1:]).cumsum(0)])
    place = larger[torch.searchsorted(sizes, scale.abs())]
    return scale.sign() * (1 + place / max(float(larger[-1]), 1.0)) / 2


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return s and t with which a BatchNorm in eval mode is y = s * x + t, per channel."""
    mean, variance = norm.running_mean, norm.running_var
    scale = (variance + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    shift = -mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach()


class _Probe:
    """One model, what each of its layers saw and gave on the example, and what reaches what."""

    def __init__(
        self, model: nn.Module, layers: dict[str, nn.Module], example: Tensor, fresh: Tensor
    ) -> None:
        self.model, self.layers, self.example, self.fresh = model, layers, example, fresh
        self.names = {module: name for name, module in layers.items()}
        self.inputs: dict[str, list[Tensor]] = {}
        self.outputs: dict[str, list[Tensor]] = {}
        self.expected = _run(model, fresh)
        self.elsewhere = [(x, _run_or_none(model, x)) for x in _of_other_sizes(fresh)]
        with self._hooked(self._record):
            _run(model, example)
        self.reach = measure_reach(
            Recorded(layers, self.inputs, self.outputs, _dim, self._run_copies)
        )

    def backward(self, norm: nn.Module) -> bool:
        """Whether layers before it can take it in."""
        name = self.names[norm]
        scale, shift = scale_and_shift(norm)
        effects = self.reach.into[name]
        gains: dict[str, Tensor] = {}
        reached: dict[Atom, set[int]] = {}
        for atom, effect in _all_of(effects):
            totals = _total(effect.values[None])[0]
            if (totals <= 1e-9).any():
                return False  # what cancels, as x - x does but for rounding, leads in no way
            reached.setdefault(atom, set()).update(effect.channels.tolist())
        for (layer, channel), channels in reached.items():
            scales = scale[sorted(channels)]
            if not torch.allclose(scales, scales[:1], rtol=1e-12, atol=0):
                return False
            gains.setdefault(layer, self._ones(layer))[channel] = scales[0]
        if not gains:
            return False
        offsets = {layer: torch.zeros_like(gain) for layer, gain in gains.items()}
        given = set().union(*reached.values())
        if any(abs(float(shift[c])) > 1e-8 for c in range(len(shift)) if c not in given):
            return False
        for atoms, channels in _components(reached):
            solution = _solved(effects, atoms, channels, shift, self.inputs[name])
            if solution is None:
                return False
            for (layer, channel), value in zip(atoms, solution, strict=True):
                offsets[layer][channel] = value

        def fold(layer: nn.Module, call: int, x: Tensor, out: Tensor) -> Tensor:
            if layer is norm:
                return x
            gain = gains.get(self.names[layer])
            if gain is None:
                return out
            dim = _dim(layer, out)
            return out * _along(gain, out, dim) + _along(offsets[self.names[layer]], out, dim)

        return self._agrees(fold) and self._agrees_whatever_the_layers_give(fold, norm)

    def forward(self, norm: nn.Module) -> bool:
        """Whether layers after it can take it in."""
        name = self.names[norm]
        scale, _ = scale_and_shift(norm)
        gains: dict[nn.Module, Tensor] = {}
        for reader, module in self.layers.items():
            if type(module) not in _CONSUMERS or reader not in self.inputs:
                continue
            for call, base in zip(self.reach.into[reader], self.inputs[reader], strict=True):
                # the norm's channels x the reader's
                effect = torch.zeros(len(scale), base.shape[_dim(module, base)], dtype=torch.bool)
                for (layer, channel), one in call.items():
                    if layer == name:
                        effect[channel, one.channels[_total(one.values[None])[0] > 1e-9]] = True
                if (effect.sum(0) > 1).any():
                    return False
                if effect.any():
                    gain = torch.where(
                        effect.any(0), scale[effect.to(torch.int).argmax(0)], torch.ones(())
                    )
                    if module in gains and not torch.equal(gains[module], gain):
                        return False
                    gains[module] = gain.to(scale)
        if not gains:
            return False
        offsets: dict[nn.Module, Tensor] = {}

        def measure(layer: nn.Module, call: int, x: Tensor, out: Tensor) -> Tensor:
            if layer is norm:
                return x
            wanted = self.outputs[self.names[layer]][call]
            if layer in gains:
                scaled = _plain(layer, x * _along(gains[layer], x, _dim(layer, x)))
                gap = (wanted - scaled).movedim(_dim(layer, out), 0).flatten(1)
                offset = offsets.setdefault(layer, gap.mean(1))
                # What is not the same everywhere may still average out later, but only at this
                # size of the input: that is no fold.
                uneven.append((gap - offset[:, None]).abs().max() > 1e-8 * wanted.abs().max())
                # A border is the same everywhere, by the size alone, where there is one position.
                uneven.append(torch.tensor(gap.shape[1] == len(x) and _has_border(layer)))
            return wanted

        uneven: list[Tensor] = []
        with self._hooked(measure):
            _run(self.model, self.example)
        if any(uneven):
            return False

        def fold(layer: nn.Module, call: int, x: Tensor, out: Tensor) -> Tensor:
            if layer is norm:
                return x
            if layer not in gains:
                return out
            scaled = _plain(layer, x * _along(gains[layer], x, _dim(layer, x)))
            return scaled + _along(offsets[layer], out, _dim(layer, out))

        return self._agrees(fold)

    def sideways(self, norm: nn.Module) -> bool:
        """Whether a layer beside it can take it in as an identity kernel."""
        scale, shift = scale_and_shift(norm)
        for name, layer in self.layers.items():
            changed = _with_identity(layer, scale, shift) if name in self.outputs else None
            if changed is None:
                continue

            def fold(
                module: nn.Module,
                call: int,
                x: Tensor,
                out: Tensor,
                layer: nn.Module = layer,
                changed: nn.Module = changed,
            ) -> Tensor:
                if module is norm:
                    return torch.zeros_like(out)
                return _plain(changed, x) if module is layer else out

            if self._agrees(fold):
                return True
        return False

    def _agrees(self, fold: Hook) -> bool:
        with self._hooked(fold):
            try:
                actual = _run(self.model, self.fresh)
            except RuntimeError:  # such as a shape that only the BatchNorm made right
                return False
        # Views of a fixed shape may have other channels at another size, where the model runs;
        # a border may be everywhere at this size.
        for x, expected in self.elsewhere:
            if expected is None:
                continue
            with self._hooked(fold):
                found = _run_or_none(self.model, x)
            if found is None or not all(map(_close, expected, found)):
                return False
        return all(map(_same, self.expected, actual))

    def _agrees_whatever_the_layers_give(self, fold: Hook, norm: nn.Module) -> bool:
        """Whether the fold also holds with every layer's output scaled and shifted at random.

        This shows what is right only by where the values lie: a rectifier after a sigmoid, a
        rectifier that lets nothing through, a sigmoid so far out that it is constant. So outputs
        are first brought to mean 0 and deviation 1, which is a scale and a shift as well.
        """
        generator = torch.Generator().manual_seed(11)
        draws = {
            self.layers[name]: torch.randn(
                (2, _channels(self.layers[name], outs[0])), generator=generator, dtype=outs[0].dtype
            )
            for name, outs in self.outputs.items()
        }
        # Of both signs: a rectifier of few values may let all of them through by chance.
        return all(
            self._agrees_with(
                fold, norm, {k: (sign * (d[0].sign() * 0.5 + d[0]), d[1]) for k, d in draws.items()}
            )
            for sign in (1, -1)
        )

    def _agrees_with(
        self, fold: Hook, norm: nn.Module, maps: dict[nn.Module, tuple[Tensor, Tensor]]
    ) -> bool:
        moments: dict[tuple[nn.Module, int], tuple[Tensor, Tensor]] = {}

        def move(layer: nn.Module, call: int, x: Tensor, out: Tensor) -> Tensor:
            if layer is norm:
                return out
            dim = _dim(layer, out)
            gain, offset = (_along(values, out, dim) for values in maps[layer])
            if (layer, call) not in moments:
                moments[layer, call] = _moments(out, dim)
            mean, deviation = moments[layer, call]
            return (out - mean) / deviation * gain + offset

        def both(layer: nn.Module, call: int, x: Tensor, out: Tensor) -> Tensor:
            return fold(layer, call, x, move(layer, call, x, out))

        with self._hooked(move):
            expected = _run(self.model, self.fresh)
        with self._hooked(both):
            return all(map(_close, expected, _run(self.model, self.fresh)))

    def _record(self, layer: nn.Module, call: int, x: Tensor, out: Tensor) -> Tensor:
        self.inputs.setdefault(self.names[layer], []).append(x.clone())
        self.outputs.setdefault(self.names[layer], []).append(out.clone())
        return out

    def _run_copies(self, count: int) -> Outputs:
        return _run(self.model, self.example.repeat(count, *[1] * (self.example.dim() - 1)))

    def _ones(self, name: str) -> Tensor:
        out = self.outputs[name][0]
        return torch.ones(_channels(self.layers[name], out), dtype=out.dtype)

    @contextmanager
    def _hooked(self, hook: Hook) -> Iterator[None]:
        calls: dict[nn.Module, int] = {}

        def run(module: nn.Module, arguments: Any, out: Tensor) -> Tensor:
            call = calls[module] = calls.get(module, -1) + 1
            return hook(module, call, arguments[0], out)

        handles = [module.register_forward_hook(run) for module in self.layers.values()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _run(model: nn.Module, x: Tensor) -> Outputs:
    with torch.no_grad():
        result = model(x.clone())
    return list(result) if isinstance(result, tuple) else [result]


def _run_or_none(model: nn.Module, x: Tensor) -> Outputs | None:
    try:
        return _run(model, x)
    except RuntimeError:  # a size that the model does not take
        return None


def _of_other_sizes(x: Tensor) -> Iterator[Tensor]:
    """Yield samples of other sizes: in space, and along the axis that most layers fix."""
    space = range(2, x.dim())
    # Views of a fixed shape take some sizes of some numbers of samples only.
    for samples in (x[:2], x, torch.cat([x, x[:1]])):
        yield _resized(samples, space, lambda size: (size + 1) // 2)
        yield _resized(samples, space, lambda size: size + (size + 1) // 2)
        yield _resized(samples, space, lambda size: 2 * size)
    yield _resized(samples, (1,), lambda size: (size + 1) // 2)
    yield _resized(samples, (1,), lambda size: size + (size + 1) // 2)


def _resized(x: Tensor, axes: Iterable[int], size: Callable[[int], int]) -> Tensor:
    """Return a tensor with some axes cut, or filled up with what they hold."""
    for axis in axes:
        old = x.shape[axis]
        x = x.index_select(axis, torch.arange(size(old)) % old)
    return x


def _moments(out: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel, in the shape of `out` but for size 1."""
    others = [axis for axis in range(out.dim()) if axis != dim]
    deviation = out.std(others, correction=0, keepdim=True)
    return out.mean(others, keepdim=True), torch.where(deviation > 0, deviation, 1.0)


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not one.numel():
        return one.shape == other.shape
    return bool((one - other).abs().max() <= 1e-7 * one.abs().max())


def _has_border(layer: nn.Module) -> bool:
    """Whether outputs may miss some taps of the kernel, so that a shift of the input varies."""
    if isinstance(layer, _CONVOLUTIONS):
        return layer.padding_mode == "zeros" and any(layer.padding)
    transposed = not isinstance(layer, nn.Linear)
    return transposed and (max(layer.kernel_size) > 1 or max(layer.stride) > 1)


def _same(one: Tensor, other: Tensor) -> bool:
    """Compare by what varies between samples: a constant could hide what is wrong beside it."""
    varying = (one - one.mean(0)).abs().max()
    largest = one.abs().max()
    if varying <= 1e-8 * largest:  # also where a rectifier lets nothing through
        return False
    return bool((one - other).abs().max() <= 1e-7 * varying + 1e-13 * largest)


def _plain(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer without its hooks."""
    with torch.no_grad():
        return layer.forward(x)


def _dim(layer: nn.Module, value: Tensor) -> int:
    """Return where a layer's channels stand in its input or output, which has a batch."""
    return value.dim() - 1 if isinstance(layer, nn.Linear) else 1


def _channels(layer: nn.Module, out: Tensor) -> int:
    return out.shape[_dim(layer, out)]


def _all_of(effects: list[dict[Atom, Effect]]) -> Iterator[tuple[Atom, Effect]]:
    for call in effects:
        yield from call.items()


def _components(reached: dict[Atom, set[int]]) -> list[tuple[list[Atom], set[int]]]:
    """Return atoms that reach channels in common, together with those channels."""
    found: list[tuple[list[Atom], set[int]]] = []
    for atom, channels in reached.items():
        atoms, together = [atom], set(channels)
        rest = []
        for other in found:
            if other[1] & together:
                atoms, together = other[0] + atoms, together | other[1]
            else:
                rest.append(other)
        found = [*rest, (atoms, together)]
    return found


def _solved(
    effects: list[dict[Atom, Effect]],
    atoms: list[Atom],
    channels: set[int],
    shift: Tensor,
    inputs: list[Tensor],
) -> Tensor | None:
    """Return by how much to move each atom for these channels to be shifted, if that is exact."""
    place = {channel: i for i, channel in enumerate(sorted(channels))}
    matrices, targets = [], []
    for call, base in zip(effects, inputs, strict=True):
        size = base[0, 0].numel()
        matrix = torch.zeros(len(place), size, len(atoms), dtype=shift.dtype)
        for column, atom in enumerate(atoms):
            if atom in call:
                rows = [place[channel] for channel in call[atom].channels.tolist()]
                matrix[rows, :, column] = call[atom].values.reshape(len(rows), size)
        matrices.append(matrix.flatten(0, 1))
        targets.append(shift[sorted(channels)].repeat_interleave(size))
    matrix, target = torch.cat(matrices), torch.cat(targets)
    solution = torch.linalg.lstsq(matrix, target[:, None], driver="gelsd").solution[:, 0]
    exact = torch.allclose(matrix @ solution, target, rtol=1e-8, atol=1e-8)
    return solution if exact else None


def _total(values: Tensor) -> Tensor:
    """Sum magnitudes over all but the first two dimensions."""
    return values.abs().reshape(*values.shape[:2], -1).sum(2)


def _along(values: Tensor, like: Tensor, dim: int) -> Tensor:
    shape = [1] * like.dim()
    shape[dim] = -1
    return values.reshape(shape)


def _with_identity(layer: nn.Module, scale: Tensor, shift: Tensor) -> nn.Module | None:
    """Return a copy of a layer that adds scale * x + shift to its output; None where none can."""
    channels = len(scale)
    if not isinstance(layer, _CONSUMERS) or layer.weight.shape[0] != channels:
        return None
    taps: tuple[int, ...] = ()
    inputs = layer.weight.shape[1]
    if not isinstance(layer, nn.Linear):
        if layer.in_channels != layer.out_channels or isinstance(layer.padding, str):
            return None
        sizes = zip(layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True)
        for padding, dilation, kernel, stride in sizes:
            if stride != 1 or padding % dilation or padding // dilation >= kernel:
                return None
            taps = (*taps, padding // dilation)
    elif inputs != channels:
        return None
    changed = copy.deepcopy(layer)
    changed._forward_hooks.clear()
    with torch.no_grad():
        for channel in range(channels):
            changed.weight[(channel, channel % inputs, *taps)] += scale[channel]
        bias = torch.zeros_like(shift) if layer.bias is None else layer.bias.detach()
        changed.bias = nn.Parameter(bias + shift)
    return changed
