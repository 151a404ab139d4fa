"""A run: data, network and folder, as its options describe them."""

from __future__ import annotations

from typing import Any

from spikenet.cli.launch import launch
from spikenet.cli.options import dataset_class, network_class, neuron_class, parse
from spikenet.cli.screen import samples
from spikenet.cli.text import is_text


class Run:
    """Data, model and folder of one run, built from its resolved options.

    Attributes:
        folder: where it is kept; the caller sets it.
    """

    def __init__(self, options: Any, seed: int) -> None:
        import torch

        from spikenet.training import Optimiser, TrainerOptions, seed_everything

        torch.set_num_threads(options.threads)
        self.options, self.seed = options, seed
        self.optim = Optimiser(**options.optim.as_dict())
        self.trainer = TrainerOptions(**options.trainer.as_dict())
        self.data = data_of(options, seed)
        seed_everything(seed)
        self.model = network_of(options, self.data)
        self.folder: Any = None

    @property
    def module(self) -> type[Any]:
        """The LightningModule that trains the model."""
        from spikenet.training import Classifier, NextToken

        return NextToken if is_text(self.data) else Classifier

    def train(self) -> None:
        """Train what is left to train, on as many devices as the options say, and keep the weights.

        Raises:
            DeviceError: for more devices than there are.
        """
        from spikenet.training.processes import check_devices

        check_devices(self.trainer.accelerator, self.trainer.devices)
        if self.trainer.devices == 1:
            self.fit()
        else:
            launch(self.folder.path, self.trainer.devices)
            self.load()

    def fit(self) -> None:
        """The same in this process, alone or as one of several."""
        from spikenet.training import fit, save_weights
        from spikenet.training.processes import place

        kind, optim = self.module, self.optim
        fit(self.model, self.data, self.folder, optim=optim, options=self.trainer, seed=self.seed, module=kind)
        if place()[0] == 0:
            save_weights(self.model, self.folder.weights)

    def load(self) -> None:
        """Take the final weights from the folder."""
        from spikenet.training import load_weights

        load_weights(self.model, self.folder.weights)

    def test(self) -> Any:
        """The evaluation on the test part."""
        from spikenet.training import evaluate

        return evaluate(self.model, self.data.test_dataloader(), len(self.data.classes))

    def facts(self) -> dict[str, str]:
        """What the report says of it."""
        changes = (*getattr(self.data, "augmentations", ()), *getattr(self.data, "mixes", ()))
        return {
            "data set": self.data.name,
            "classes": ", ".join(self.data.classes),
            "samples": samples(self.data),
            "network": f"{self.options.network}, {sum(p.numel() for p in self.model.parameters()):,} parameters",
            **({"neurons": self.options.neuron} if self.options.neuron else {}),
            **({"augmentation": ", ".join(map(str, changes))} if changes else {}),
            "seed": str(self.seed),
            "epochs": str(self.options.trainer.epochs),
            "test part": "seen once, after the last epoch; nothing was chosen by it",
        }


def data_of(options: Any, seed: int) -> Any:
    """The data, read."""
    data = dataset_class(options.dataset)(**options.data.as_dict(), seed=seed)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def network_of(options: Any, data: Any) -> Any:
    """The network, in the sizes of its data and with the neurons asked for."""
    from spikenet.models import with_neuron

    sizes = (
        {"vocabulary": len(data.classes)}
        if is_text(data)
        else {"in_shape": tuple(data.feature_shape), "classes": len(data.classes)}
    )
    own = options.model.as_dict() if "model" in options else {}  # some have none
    network = network_class(options.network)(**sizes, **own)
    return with_neuron(network, neuron_class(options.neuron)) if options.neuron else network


def config_text(parser: Any, options: Any, seed: int) -> str:
    """The options of one run as its folder keeps them, YAML, those that are None too."""
    stored = options.clone()
    stored.seeds = [seed]
    for word in ("config", "preset", "resume"):
        stored.pop(word, None)
    text: str = parser.dump(stored, skip_validation=True, skip_unset=False)
    return text


def stored(path: Any) -> Run:
    """A run as its folder describes it."""
    from spikenet.training import RunFolder

    folder = RunFolder.open(path)
    _, options = parse("", ["--config", str(folder.config)])
    run = Run(options, options.seeds[0])
    run.folder = folder
    return run
