"""Detection: a picture in, labelled boxes out. The model is in model.py."""

from model import Model

from fnbuild import vision


class Detection(vision.Detector):
    def load(self, context):
        # Runs once in each worker: what is loaded here serves every request.
        self.model = Model()

    def predict(self, image, threshold):
        return [vision.rectangle(*item) for item in self.model.infer(image, threshold)]


init_context, handler = vision.export(Detection)
