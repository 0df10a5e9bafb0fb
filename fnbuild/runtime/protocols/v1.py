"""The V1 protocol: a request's JSON to instances."""

import json
from typing import Any, Dict, List

from .. import wire
from .errors import ProtocolError
from .instances import Instance

# A content type with the image itself as the body.
_IMAGE_TYPE = "image/"
_CLOUD_EVENT = "application/cloudevents+json"


def parse_request(body: wire.Body, content_type: str) -> Dict[str, Any]:
    """Return the request's object: JSON, whatever its content type is. Raises ProtocolError."""
    value = parse_json(body)
    if content_type.lower().startswith(_CLOUD_EVENT) and isinstance(value, dict):
        value = value.get("data")
    if not isinstance(value, dict):
        raise ProtocolError("the request is not a JSON object with the key instances")
    if not isinstance(value.get("instances", []), list):
        raise ProtocolError('Expected "instances" to be a list')
    return value


def parse_json(body: wire.Body) -> Any:
    """Return the value of JSON in UTF-8. Raises ProtocolError."""
    try:
        return json.loads(str(body, "utf-8"))
    except (ValueError, RecursionError) as problem:
        raise ProtocolError("Unrecognized request format: %s" % problem) from None


def read_whole_request(body: wire.Body, content_type: str) -> List[Instance]:
    """Return the request as one instance: its object, or the image. Raises ProtocolError."""
    if _is_image(content_type):
        return [Instance(bytes(body))]
    return [Instance(parse_request(body, content_type))]


def read_instances(body: wire.Body, content_type: str) -> List[Instance]:
    """Return the instances of a request's body. Raises ProtocolError."""
    if _is_image(content_type):
        return [Instance({}, {"image": bytes(body)})]
    request = parse_request(body, content_type)
    instances = request.get("instances")
    if instances is None and isinstance(request.get("inputs"), list):
        instances = request["inputs"]
    if not isinstance(instances, list):
        raise ProtocolError('Expected "instances" to be a list')
    return [_read_instance(index, instance) for index, instance in enumerate(instances)]


def _is_image(content_type: str) -> bool:
    return content_type.lower().startswith(_IMAGE_TYPE)


def _read_instance(index: int, value: Any) -> Instance:
    """Return an instance; those of image models get their image at the key `image`."""
    if not isinstance(value, dict):
        return Instance(value)
    key = next((key for key in ("image", "data", "b64") if key in value), None)
    if key is None:
        return Instance(value)
    image = value[key]
    if isinstance(image, dict) and "b64" in image:
        image = image["b64"]
        if not isinstance(image, str):
            raise ProtocolError("instances[%d].%s.b64 is not a text" % (index, key))
    if not isinstance(image, str):
        return Instance(value)
    values = {name: item for name, item in value.items() if name != key}
    values["image"] = image
    return Instance(values, encoded="image")
