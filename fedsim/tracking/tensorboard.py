"""TensorBoard event files in the run's folder, `RUN/tensorboard`."""

from __future__ import annotations

from collections.abc import Mapping

from fedsim.tracking.base import TRACKERS, Story, Tracker

FILES = "events.out.tfevents.*"
FLUSH_S = 10
# What the table of hyper-parameters shows beside them.
SHOWN = ("validation/top1_recall", "test/top1_recall", "test/perplexity", "exposure/planted")


@TRACKERS.register("tensorboard")
class TensorBoard(Tracker):
    """Scalars by round, and the config as hyper-parameters.

    A resumed run writes its files anew from its tables, so a step has one point however often the
    run was cut off. A TensorBoard that is open meanwhile drops what the file's first event
    (SessionLog.START at step 0) says is void.
    """

    module = "tensorboard"
    install = "pip install tensorboard"
    sends = False

    def __init__(self, story: Story) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        folder = story.folder / "tensorboard"
        before = list(folder.glob(FILES))
        for old in before:
            old.unlink()
        purge = 0 if before else None
        self._writer = SummaryWriter(str(folder), purge_step=purge, flush_secs=FLUSH_S)
        self.where = f"tensorboard --logdir {story.folder.parent}"
        files = self._writer.file_writer
        assert files is not None  # until it is closed
        for summary in hparams(dict(story.parameters), dict.fromkeys(SHOWN, 0.0)):
            files.add_summary(summary)

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.send`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, state: str) -> None:
        """See `Tracker.close`."""
        self._writer.close()
