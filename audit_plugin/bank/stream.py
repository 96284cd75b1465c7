"""Pictures by name, decoded ahead of their use and batched by size."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from audit_plugin.core.protocols import Images
from audit_plugin.sources.images import Pixels, to_float

_DECODERS = 2


def decoded(shas: Iterable[str], load: Callable[[str], Pixels], *, batch: int) -> Iterator[tuple[list[str], Images]]:
    """(names, images) of one size each, at most ``batch`` at a time; while one batch is used the next is read and decoded.

    At most four batches of odd sizes wait in memory for their like; then the fullest goes as it is.
    """
    waiting: dict[tuple[int, ...], list[tuple[str, Pixels]]] = defaultdict(list)
    for sha, pixels in _ahead(shas, load, window=2 * batch):
        waiting[pixels.shape].append((sha, pixels))
        fullest = max(waiting, key=lambda shape: len(waiting[shape]))
        if len(waiting[fullest]) >= batch or sum(map(len, waiting.values())) >= 4 * batch:
            yield _stacked(waiting.pop(fullest))
    for left in waiting.values():
        yield _stacked(left)


def _stacked(pictures: list[tuple[str, Pixels]]) -> tuple[list[str], Images]:
    return [sha for sha, _ in pictures], to_float([pixels for _, pixels in pictures])


def _ahead(shas: Iterable[str], load: Callable[[str], Pixels], *, window: int) -> Iterator[tuple[str, Pixels]]:
    """Every name with its picture, in order; up to ``window`` pictures are loaded in advance by a few threads."""
    loading: deque[tuple[str, Future[Pixels]]] = deque()
    with ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode") as pool:
        try:
            for sha in shas:
                loading.append((sha, pool.submit(load, sha)))
                if len(loading) >= window:
                    first, future = loading.popleft()
                    yield first, future.result()
            while loading:
                first, future = loading.popleft()
                yield first, future.result()
        finally:
            for _, future in loading:
                future.cancel()
