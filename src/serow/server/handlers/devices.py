"""What there is to run on, measured anew."""

from starlette.requests import Request
from starlette.responses import Response

from serow.devices.device import Device
from serow.scheduler.loaded import LoadedModel
from serow.server.context import context
from serow.server.responses import json_response
from serow.wire.devices import DeviceModel, DeviceRow, Devices

_PATIENCE = 30.0  # seconds; the first look may have to wait for a driver


async def devices(request: Request) -> Response:
    """GET /api/devices: every card, who uses it, and in words why nobody does."""
    inventory, scheduler = context(request).inventory, context(request).scheduler
    is_done = not inventory.may_have_devices or await inventory.refresh(_PATIENCE)
    warnings = [*([] if is_done else ["some driver or engine has not answered yet"]), *inventory.faults]
    loaded = scheduler.loaded()
    return json_response(Devices([_row(device, loaded) for device in scheduler.devices], warnings))


def _row(device: Device, loaded: list[LoadedModel]) -> DeviceRow:
    return DeviceRow(
        name=device.name,
        kind=device.kind,
        uuid=device.uuid,
        driver=device.driver,
        total=device.total,
        free=device.free,
        engines=device.handles,
        models=[
            DeviceModel(name=each.model.name.display_shortest, size=use.size, layers=use.layers)
            for each in loaded
            for use in each.uses
            if use.id == device.id
        ],
        reason=device.reason,
    )
