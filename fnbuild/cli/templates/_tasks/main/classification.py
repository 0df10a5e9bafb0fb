"""Classification: a picture in, labels of the whole picture out. The model is in model.py."""

from model import Model

from fnbuild import vision


class Classification(vision.Classifier):
    def load(self, context):
        # Runs once in each worker: what is loaded here serves every request.
        self.model = Model()

    def predict(self, image):
        return self.model.infer(image)


init_context, handler = vision.export(Classification)
