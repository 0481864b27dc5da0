"""Published figures in per cent: accuracies on CelebA, declines and errors on classes."""

# Kimura & Tanaka 2019, table 3. MT-RBM PCA: Ehrlich et al. 2016; LNets+ANet: Liu et
# al. 2015; FaceTracer: Kumar et al. 2008.
COLUMNS = ("MCAttn", "MT-RBM PCA", "LNets+ANet", "FaceTracer")

# What table 3 prints as the average of its MCAttn column, whose values average 90.17.
PRINTED_MCATTN_AVERAGE = 92.05

ACCURACY: dict[str, tuple[float, float, float, float]] = {
    "5_o_Clock_Shadow": (92.85, 90, 91, 85),
    "Arched_Eyebrows": (81.37, 77, 79, 76),
    "Attractive": (80.71, 76, 81, 78),
    "Bags_Under_Eyes": (83.79, 81, 79, 76),
    "Bald": (98.30, 98, 98, 89),
    "Bangs": (94.10, 88, 95, 88),
    "Big_Lips": (70.14, 69, 68, 64),
    "Big_Nose": (83.67, 81, 78, 74),
    "Black_Hair": (88.39, 76, 88, 70),
    "Blond_Hair": (95.10, 91, 95, 80),
    "Blurry": (95.33, 95, 84, 81),
    "Brown_Hair": (86.55, 83, 80, 60),
    "Bushy_Eyebrows": (91.87, 88, 90, 80),
    "Chubby": (96.02, 95, 91, 86),
    "Double_Chin": (96.68, 96, 92, 88),
    "Eyeglasses": (98.67, 96, 99, 98),
    "Goatee": (96.72, 96, 95, 93),
    "Gray_Hair": (97.89, 97, 97, 90),
    "Heavy_Makeup": (89.49, 85, 90, 85),
    "High_Cheekbones": (86.77, 83, 87, 84),
    "Male": (97.38, 90, 98, 91),
    "Mouth_Slightly_Open": (93.67, 82, 92, 87),
    "Mustache": (96.60, 97, 95, 91),
    "Narrow_Eyes": (86.38, 86, 81, 82),
    "No_Beard": (94.87, 90, 95, 90),
    "Oval_Face": (73.33, 73, 66, 64),
    "Pale_Skin": (97.67, 96, 91, 83),
    "Pointy_Nose": (75.62, 73, 72, 68),
    "Receding_Hairline": (93.44, 96, 89, 76),
    "Rosy_Cheeks": (94.67, 94, 90, 84),
    "Sideburns": (97.65, 96, 96, 94),
    "Smiling": (92.28, 88, 92, 89),
    "Straight_Hair": (81.60, 80, 73, 63),
    "Wavy_Hair": (81.64, 72, 80, 73),
    "Wearing_Earrings": (84.61, 81, 82, 73),
    "Wearing_Hat": (98.92, 97, 99, 89),
    "Wearing_Lipstick": (92.52, 89, 93, 89),
    "Wearing_Necklace": (86.37, 87, 71, 68),
    "Wearing_Necktie": (96.30, 94, 93, 86),
    "Young": (87.00, 81, 87, 80),
}

# GCM paper (IPSJ Transactions 10(2), 2017), section 4: accuracy after 180 epochs on all training
# images, {data set: {network: per cent}}.
CLASS_ACCURACY = {
    "cifar10": {"gcm": 90.43, "gcm, nonnegative": 89.91, "cnn": 90.39},
    "svhn_cropped": {"gcm": 96.19},
}

# GCM paper, table 8: the classifier's accuracy, then the accuracy where the mean of a visual map
# decides and the decline, {method: (accuracy, {way to make the map: (accuracy, decline)})}.
DECLINE: dict[str, tuple[float, dict[str, tuple[float, float]]]] = {
    method: (
        90.43 if method == "gcm" else 90.39,
        dict(zip(("map", "normalized", "weighted_sum", "product"), row, strict=True)),
    )
    for method, row in {
        "guided_backprop": ((84.76, 6.23), (84.85, 6.13), (84.76, 6.23), (23.98, 73.47)),
        "guided_grad_cam": ((88.33, 2.28), (88.18, 2.44), (88.33, 2.28), (87.91, 2.74)),
        "cam": ((89.80, 0.65), (87.11, 3.63), (87.39, 3.32), (30.64, 66.10)),
        "grad_cam": ((88.21, 2.41), (86.74, 4.04), (86.37, 4.45), (33.00, 63.49)),
        "gcm": ((90.13, 0.33), (88.52, 2.11), (88.14, 2.53), (90.43, 0.00)),
    }.items()
}

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
