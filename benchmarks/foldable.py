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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from calmed import calmed
from layers import (
    CONSUMERS,
    NORMS,
    along,
    channel_axis,
    channel_count,
    has_border,
    moments,
    plain,
    scale_and_shift,
    with_identity,
)
from reach import Recorded, measure_reach
from runs import Outputs, close, of_other_sizes, run, run_or_none, same
from shifts import Atom, all_of, components, solved, total
from torch import Tensor, nn

Hook = Callable[[nn.Module, int, Tensor, Tensor], Tensor]
"""From a layer, the number of the call, its input and its output to the output to use."""


def foldable(model: nn.Module, example: Tensor) -> dict[str, str]:
    """Return the BatchNorms that can be removed exactly, each with the way that shows it.

    `model` is in eval mode, in float64, with hooks of its own nowhere; `example` has one sample.
    """
    found = _ways(model, example, None)
    return found and _ways(calmed(model, example), example, set(found))


def _ways(model: nn.Module, example: Tensor, asked: set[str] | None) -> dict[str, str]:
    """Return the BatchNorms, of those asked for, that can be removed, each with the way."""
    layers = {
        name: module
        for name, module in model.named_modules()
        if type(module) in CONSUMERS or type(module) in NORMS
    }
    norms = {name: module for name, module in layers.items() if type(module) in NORMS}
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


class _Probe:
    """One model, what each of its layers saw and gave on the example, and what reaches what."""

    def __init__(
        self, model: nn.Module, layers: dict[str, nn.Module], example: Tensor, fresh: Tensor
    ) -> None:
        self.model, self.layers, self.example, self.fresh = model, layers, example, fresh
        self.names = {module: name for name, module in layers.items()}
        self.inputs: dict[str, list[Tensor]] = {}
        self.outputs: dict[str, list[Tensor]] = {}
        self.expected = run(model, fresh)
        self.elsewhere = [(x, run_or_none(model, x)) for x in of_other_sizes(fresh)]
        with self._hooked(self._record):
            run(model, example)
        self.reach = measure_reach(
            Recorded(layers, self.inputs, self.outputs, channel_axis, self._run_copies)
        )

    def backward(self, norm: nn.Module) -> bool:
        """Whether layers before it can take it in."""
        name = self.names[norm]
        scale, shift = scale_and_shift(norm)
        effects = self.reach.into[name]
        gains: dict[str, Tensor] = {}
        reached: dict[Atom, set[int]] = {}
        for atom, effect in all_of(effects):
            totals = total(effect.values[None])[0]
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
        for atoms, channels in components(reached):
            solution = solved(effects, atoms, channels, shift, self.inputs[name])
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
            dim = channel_axis(layer, out)
            return out * along(gain, out, dim) + along(offsets[self.names[layer]], out, dim)

        return self._agrees(fold) and self._agrees_whatever_the_layers_give(fold, norm)

    def forward(self, norm: nn.Module) -> bool:
        """Whether layers after it can take it in."""
        name = self.names[norm]
        scale, _ = scale_and_shift(norm)
        gains: dict[nn.Module, Tensor] = {}
        for reader, module in self.layers.items():
            if type(module) not in CONSUMERS or reader not in self.inputs:
                continue
            for call, base in zip(self.reach.into[reader], self.inputs[reader], strict=True):
                # the norm's channels x the reader's
                effect = torch.zeros(
                    len(scale), base.shape[channel_axis(module, base)], dtype=torch.bool
                )
                for (layer, channel), one in call.items():
                    if layer == name:
                        effect[channel, one.channels[total(one.values[None])[0] > 1e-9]] = True
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
                scaled = plain(layer, x * along(gains[layer], x, channel_axis(layer, x)))
                gap = (wanted - scaled).movedim(channel_axis(layer, out), 0).flatten(1)
                offset = offsets.setdefault(layer, gap.mean(1))
                # What is not the same everywhere may still average out later, but only at this
                # size of the input: that is no fold.
                uneven.append((gap - offset[:, None]).abs().max() > 1e-8 * wanted.abs().max())
                # A border is the same everywhere, by the size alone, where there is one position.
                uneven.append(torch.tensor(gap.shape[1] == len(x) and has_border(layer)))
            return wanted

        uneven: list[Tensor] = []
        with self._hooked(measure):
            run(self.model, self.example)
        if any(uneven):
            return False

        def fold(layer: nn.Module, call: int, x: Tensor, out: Tensor) -> Tensor:
            if layer is norm:
                return x
            if layer not in gains:
                return out
            scaled = plain(layer, x * along(gains[layer], x, channel_axis(layer, x)))
            return scaled + along(offsets[layer], out, channel_axis(layer, out))

        return self._agrees(fold)

    def sideways(self, norm: nn.Module) -> bool:
        """Whether a layer beside it can take it in as an identity kernel."""
        scale, shift = scale_and_shift(norm)
        for name, layer in self.layers.items():
            changed = with_identity(layer, scale, shift) if name in self.outputs else None
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
                return plain(changed, x) if module is layer else out

            if self._agrees(fold):
                return True
        return False

    def _agrees(self, fold: Hook) -> bool:
        with self._hooked(fold):
            try:
                actual = run(self.model, self.fresh)
            except RuntimeError:  # such as a shape that only the BatchNorm made right
                return False
        # Views of a fixed shape may have other channels at another size, where the model runs;
        # a border may be everywhere at this size.
        for x, expected in self.elsewhere:
            if expected is None:
                continue
            with self._hooked(fold):
                found = run_or_none(self.model, x)
            if found is None or not all(map(close, expected, found)):
                return False
        return all(map(same, self.expected, actual))

    def _agrees_whatever_the_layers_give(self, fold: Hook, norm: nn.Module) -> bool:
        """Whether the fold also holds with every layer's output scaled and shifted at random.

        This shows what is right only by where the values lie: a rectifier after a sigmoid, a
        rectifier that lets nothing through, a sigmoid so far out that it is constant. So outputs
        are first brought to mean 0 and deviation 1, which is a scale and a shift as well.
        """
        generator = torch.Generator().manual_seed(11)
        draws = {
            self.layers[name]: torch.randn(
                (2, channel_count(self.layers[name], outs[0])),
                generator=generator,
                dtype=outs[0].dtype,
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
        met: dict[tuple[nn.Module, int], tuple[Tensor, Tensor]] = {}

        def move(layer: nn.Module, call: int, x: Tensor, out: Tensor) -> Tensor:
            if layer is norm:
                return out
            dim = channel_axis(layer, out)
            gain, offset = (along(values, out, dim) for values in maps[layer])
            if (layer, call) not in met:
                met[layer, call] = moments(out, dim)
            mean, deviation = met[layer, call]
            return (out - mean) / deviation * gain + offset

        def both(layer: nn.Module, call: int, x: Tensor, out: Tensor) -> Tensor:
            return fold(layer, call, x, move(layer, call, x, out))

        with self._hooked(move):
            expected = run(self.model, self.fresh)
        with self._hooked(both):
            return all(map(close, expected, run(self.model, self.fresh)))

    def _record(self, layer: nn.Module, call: int, x: Tensor, out: Tensor) -> Tensor:
        self.inputs.setdefault(self.names[layer], []).append(x.clone())
        self.outputs.setdefault(self.names[layer], []).append(out.clone())
        return out

    def _run_copies(self, count: int) -> Outputs:
        return run(self.model, self.example.repeat(count, *[1] * (self.example.dim() - 1)))

    def _ones(self, name: str) -> Tensor:
        out = self.outputs[name][0]
        return torch.ones(channel_count(self.layers[name], out), dtype=out.dtype)

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
