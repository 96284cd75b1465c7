"""What each method of making counterfactuals is, in one sentence for a reader of the report, and where it comes from."""

from typing import Final

METHODS: Final = {
    "polyak": "steps of Polyak's length along the model's gradient, just as much guidance as the target still needs (ours, on the clean estimates of FastDiME)",
    "ensemble": "many noisy variants at once, moved by how the model's scores and the pictures vary together, without any gradient "
    "(after FreeMCG: Kim et al., CVPR 2025)",
    "dime": "a diffusion guided by the model's gradient at wholly denoised pictures (DiME: Jeanneret, Simon and Jurie, ACCV 2022; here without "
    "its perceptual loss)",
    "fastdime": "a diffusion guided by the model's gradient at each step's own estimate of the picture, within a mask that it finds itself "
    "(FastDiME: Weng et al., ECCV 2024)",
    "fastdime2": "FastDiME run twice, the second time within the mask of a first, unmasked run (FastDiME-2: Weng et al., ECCV 2024)",
    "fastdime2plus": "FastDiME run twice, the second time within the mask of a first, masked run (FastDiME-2+: Weng et al., ECCV 2024)",
    "maskdime": "a guided diffusion that may change only the pixels at which the model's gradient is largest (MaskDiME, CVPR 2026)",
    "dvce": "a diffusion that starts half-way, guided through its own network by gradients of adaptive length (DVCE: Augustin et al., NeurIPS 2022)",
    "evolution": "starting noises of an edit bred for the model's score, without any gradient (after evolutionary search over noise: He et al., 2025)",
    "time": "an exact inversion drawn again with words learned for the model's classes, from its labels alone (TIME: Jeanneret et al., WACV 2024)",
    "ldce": "a diffusion that hears the model's gradient only where it agrees with the diffusion's own idea of the class (LDCE: Farid et al., 2023)",
    "ace": "an attack on the model through a diffusion that filters out what is no picture, then a repainting of what the attack did not need "
    "(ACE: Jeanneret, Simon and Jurie, CVPR 2023)",
}
"""Name in the configuration -> what it is, and its source; no full stop."""
