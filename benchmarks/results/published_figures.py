"""Published figures in per cent that only the tables of this folder print."""

# GCM paper (IPSJ Transactions 10(2), 2017), section 4: accuracy after 180 epochs on all training
# images, {data set: {network: per cent}}.
CLASS_ACCURACY = {
    "cifar10": {"gcm": 90.43, "gcm, nonnegative": 89.91, "cnn": 90.39},
    "svhn_cropped": {"gcm": 96.19},
}

# Headings of Fukui et al. 2019, table 1, for features g and a map M.
MECHANISMS = {"none": "none, g", "product": "eq. 1, M g", "residual": "eq. 2, (1 + M) g"}

# Fukui et al. 2019, table 1: top-1 errors on CIFAR-100 without attention, with eq. 1 and eq. 2.
MECHANISM_ERRORS: dict[str, tuple[float, float, float]] = {
    "resnet20": (31.47, 30.61, 30.46),
    "resnet32": (30.13, 28.34, 27.91),
    "resnet44": (25.90, 24.83, 25.59),
    "resnet56": (25.61, 24.22, 24.07),
    "resnet110": (24.14, 23.28, 22.82),
}

# Fukui et al. 2019, table 2: top-1 errors of backbones, without attention and with eq. 2.
ERRORS: dict[tuple[str, str], dict[str, float]] = {
    ("resnet110", "none"): {"cifar10": 6.43, "cifar100": 24.14, "svhn_cropped": 2.18},
    ("resnet110", "residual"): {"cifar10": 4.91, "cifar100": 22.82, "svhn_cropped": 1.86},
    ("wide_resnet28_4", "none"): {"cifar10": 4.00, "cifar100": 19.25, "svhn_cropped": 2.42},
    ("wide_resnet28_4", "residual"): {"cifar10": 3.78, "cifar100": 18.12, "svhn_cropped": 2.24},
    ("densenet100_12", "none"): {"cifar10": 4.51, "cifar100": 22.27, "svhn_cropped": 2.07},
    ("densenet100_12", "residual"): {"cifar10": 4.17, "cifar100": 21.63, "svhn_cropped": 2.01},
    ("resnext28_8x4", "none"): {"cifar10": 3.84, "cifar100": 18.32, "svhn_cropped": 2.16},
    ("resnext28_8x4", "residual"): {"cifar10": 3.80, "cifar100": 17.70, "svhn_cropped": 2.01},
    ("vgg16", "none"): {"imagenet2012": 31.2},
    ("vgg16_bn", "none"): {"imagenet2012": 26.24},
    ("vgg16_bn", "residual"): {"imagenet2012": 25.55},
    ("resnet152", "none"): {"imagenet2012": 22.19},
    ("resnet152", "residual"): {"imagenet2012": 21.37},
    ("se_resnet152", "none"): {"imagenet2012": 21.57},
    ("se_resnet152", "residual"): {"imagenet2012": 20.77},
}

# Fukui et al. 2019, table 4: mean accuracy on CelebA, and how many of the 40 attributes ABN wins.
ATTRIBUTE_MEANS: dict[str, tuple[float, int | None]] = {
    "FaceTracer": (81.13, 40),
    "PANDA-I": (85.43, 39),
    "LNets+ANet": (87.30, 37),
    "MOON": (90.93, 29),
    "ResNet101": (90.69, 27),
    "ABN": (91.07, None),
}
