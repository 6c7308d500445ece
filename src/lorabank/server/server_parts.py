"""The parts of a server put together: for HTTP, and for tools over standard input and output."""

from lorabank.bank.bank import Bank
from lorabank.server.json_log import set_up
from lorabank.server.learning import Learning, state_folder
from lorabank.server.model_thread import ModelThread
from lorabank.server.prometheus import Metrics
from lorabank.server.requests import Server
from lorabank.server.server_settings import ServerSettings
from lorabank.server.uploads import Uploads
from lorabank.store.store import Store


def make_server(settings: ServerSettings) -> Server:
    """Return a server whose model is loaded when its thread is started; logs are JSON from here on.

    Raises:
        UsageError: the bank cannot be opened.
    """
    Store(settings.bank).close()  # a bank that is none is told before anything is waited for
    set_up()
    metrics = Metrics()
    model = ModelThread(lambda: Bank.open(settings.bank, device=settings.device), settings, metrics)
    uploads = Uploads(state_folder(settings) / "files")
    return Server(settings, model, metrics, Learning(settings, model, uploads, metrics), uploads)
