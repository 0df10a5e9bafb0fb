import os

from model_handler import ModelHandler


def init_context(context):
    folder = os.environ.get("STORAGE_URI", "/mnt/models")
    context.user_data.model = ModelHandler(folder)
    context.logger.info(f"The model is ready: {context.user_data.model.folder}")


def handler(context, event):
    return context.user_data.model.predict(event.body)
