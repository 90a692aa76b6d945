from cifar10_serving.artifacts.labels import CLASS_NAMES, MODEL_NAMES, identity


def test_class_names_are_cifar10s_in_the_official_order() -> None:
    assert (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ) == CLASS_NAMES


def test_there_are_the_six_models_each_with_a_title() -> None:
    assert MODEL_NAMES == ("sequential", "functional", "subclassing", "vgg16", "mobilenetv2", "resnet50v2")
    assert len({identity(name).title for name in MODEL_NAMES}) == len(MODEL_NAMES)
