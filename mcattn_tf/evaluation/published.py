"""Published figures in per cent: accuracies on CelebA, declines on classes."""

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
