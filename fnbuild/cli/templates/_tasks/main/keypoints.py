"""Keypoints: a picture in, skeletons with named points out. The model is in model.py."""

from model import Model

from fnbuild import vision


class Keypoints(vision.Detector):
    def load(self, context):
        # Runs once in each worker: what is loaded here serves every request.
        self.model = Model()

    def predict(self, image, threshold):
        return [vision.skeleton(*item) for item in self.model.infer(image, threshold)]


init_context, handler = vision.export(Keypoints)
