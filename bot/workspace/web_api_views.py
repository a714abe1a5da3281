"""Web API: modals, the Home tab and files. Each function is one method; names and errors are Slack's."""

from typing import Final

from bot.workspace.refused import Refused, refused_for
from bot.workspace.services import Call, Handler, Services
from bot.workspace.state import Json
from bot.workspace.web_api_chat import bots_channel


def views_open(services: Services, call: Call) -> Json:
    return {"view": services.views.open(_trigger(call), call.value("view"))}


def views_push(services: Services, call: Call) -> Json:
    return {"view": services.views.push(_trigger(call), call.value("view"))}


def _trigger(call: Call) -> str:
    return call.text("trigger_id") or call.required("interactivity_pointer")


def views_update(services: Services, call: Call) -> Json:
    view_id, external_id = call.text("view_id") or None, call.text("external_id") or None
    if not view_id and not external_id:
        raise refused_for("invalid_arguments", ["missing required field: view_id"])
    hash_ = call.text("hash") or None
    view = services.views.update(call.value("view"), view_id=view_id, external_id=external_id, hash_=hash_)
    return {"view": view}


def views_publish(services: Services, call: Call) -> Json:
    if not services.app.home_tab:
        raise Refused("not_enabled")
    hash_ = call.text("hash") or None
    return {"view": services.views.publish(call.required("user_id"), call.value("view"), hash_=hash_)}


def upload_url(services: Services, call: Call) -> Json:
    filename = call.required("filename").replace("/", "_")
    return services.uploads.expect(
        filename, call.number("length", 0), call.text("alt_txt") or call.text("alt_text")
    )


def complete_upload(services: Services, call: Call) -> Json:
    files = call.value("files")
    good = isinstance(files, list) and all(isinstance(one, dict) and one.get("id") for one in files)
    if not good or not files:
        raise refused_for("invalid_arguments", ["must provide an array of {id, title} [json-pointer:/files]"])
    named = call.text("channel_id") or call.text("channels").split(",")[0]
    channel = bots_channel(services, named) if named else None
    comment, thread_ts = call.text("initial_comment"), call.text("thread_ts") or None
    return {"files": services.uploads.complete(files, channel, comment, thread_ts)}


def files_info(services: Services, call: Call) -> Json:
    file = services.uploads.file(call.required("file"))
    paging = {"count": 100, "total": 0, "page": 1, "pages": 0}
    return {"file": file, "comments": [], "response_metadata": {"next_cursor": ""}, "paging": paging}


def files_list(services: Services, call: Call) -> Json:
    channel, user = call.text("channel"), call.text("user")
    files = [
        file
        for file in services.state.files.values()
        if (not user or file["user"] == user)
        and (not channel or channel in (*file["channels"], *file["groups"], *file["ims"]))
    ]
    paging = {"count": 100, "total": len(files), "page": 1, "pages": 1}
    return {"files": files, "paging": paging}


def files_delete(services: Services, call: Call) -> Json:
    services.uploads.delete(call.required("file"))
    return {}


METHODS: Final[dict[str, Handler]] = {
    "files.completeUploadExternal": complete_upload,
    "files.delete": files_delete,
    "files.getUploadURLExternal": upload_url,
    "files.info": files_info,
    "files.list": files_list,
    "views.open": views_open,
    "views.publish": views_publish,
    "views.push": views_push,
    "views.update": views_update,
}
