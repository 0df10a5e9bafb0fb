"""The function served by flask."""

import calling
from flask import Flask, jsonify, request

app = Flask(__name__)
calling.prepare()


@app.post("/")
def serve():
    return jsonify(calling.call(request.get_data(), request.content_type))
