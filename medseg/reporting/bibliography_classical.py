# ruff: noqa: E501 - one work a line reads better than titles in pieces
"""The works behind the classical methods: key, authors, title, where, year, DOI, volume, pages."""

from __future__ import annotations

_PAMI = "IEEE Transactions on Pattern Analysis and Machine Intelligence"
_TIP = "IEEE Transactions on Image Processing"
_TMI = "IEEE Transactions on Medical Imaging"
_CVGIP = "Computer Vision, Graphics, and Image Processing"
_IJCV = "International Journal of Computer Vision"
_PR = "Pattern Recognition"

# fmt: off
ARTICLES: tuple[tuple[str, str, str, str, int, str, str, str], ...] = (
    ("perona1990diffusion", "Perona, Pietro and Malik, Jitendra", "Scale-space and edge detection using anisotropic diffusion", _PAMI, 1990, "10.1109/34.56205", "12", "629--639"),
    ("coupe2008nlm", "Coupé, Pierrick and others", "An optimized blockwise nonlocal means denoising filter for 3-D magnetic resonance images", _TMI, 2008, "10.1109/TMI.2007.906087", "27", "425--441"),
    ("pizer1987clahe", "Pizer, Stephen M. and others", "Adaptive histogram equalization and its variations", _CVGIP, 1987, "10.1016/S0734-189X(87)80186-X", "39", "355--368"),
    ("nyul2000standard", "Nyúl, László G. and Udupa, Jayaram K. and Zhang, Xuan", "New variants of a method of MRI scale standardization", _TMI, 2000, "10.1109/42.836373", "19", "143--150"),
    ("tustison2010n4", "Tustison, Nicholas J. and others", "N4ITK: improved N3 bias correction", _TMI, 2010, "10.1109/TMI.2010.2046908", "29", "1310--1320"),
    ("smith2002bet", "Smith, Stephen M.", "Fast robust automated brain extraction", "Human Brain Mapping", 2002, "10.1002/hbm.10062", "17", "143--155"),
    ("shattuck2001tissue", "Shattuck, David W. and others", "Magnetic resonance image tissue classification using a partial volume model", "NeuroImage", 2001, "10.1006/nimg.2000.0730", "13", "856--876"),
    ("zucker1981edge", "Zucker, Steven W. and Hummel, Robert A.", "A three-dimensional edge operator", _PAMI, 1981, "10.1109/TPAMI.1981.4767105", "3", "324--331"),
    ("daugman1985gabor", "Daugman, John G.", "Uncertainty relation for resolution in space, spatial frequency, and orientation optimized by two-dimensional visual cortical filters", "Journal of the Optical Society of America A", 1985, "10.1364/JOSAA.2.001160", "2", "1160--1169"),
    ("ojala2002lbp", "Ojala, Timo and Pietikäinen, Matti and Mäenpää, Topi", "Multiresolution gray-scale and rotation invariant texture classification with local binary patterns", _PAMI, 2002, "10.1109/TPAMI.2002.1017623", "24", "971--987"),
    ("weickert1999coherence", "Weickert, Joachim", "Coherence-enhancing diffusion filtering", _IJCV, 1999, "10.1023/A:1008009714131", "31", "111--127"),
    ("li1993entropy", "Li, C. H. and Lee, C. K.", "Minimum cross entropy thresholding", _PR, 1993, "10.1016/0031-3203(93)90115-D", "26", "617--625"),
    ("yen1995criterion", "Yen, Jui-Cheng and Chang, Fu-Juay and Chang, Shyang", "A new criterion for automatic multilevel thresholding", _TIP, 1995, "10.1109/83.366472", "4", "370--378"),
    ("zack1977triangle", "Zack, G. W. and Rogers, W. E. and Latt, S. A.", "Automatic measurement of sister chromatid exchange frequency", "Journal of Histochemistry and Cytochemistry", 1977, "10.1177/25.7.70454", "25", "741--753"),
    ("kapur1985entropy", "Kapur, J. N. and Sahoo, P. K. and Wong, A. K. C.", "A new method for gray-level picture thresholding using the entropy of the histogram", _CVGIP, 1985, "10.1016/0734-189X(85)90125-2", "29", "273--285"),
    ("kittler1986error", "Kittler, Josef and Illingworth, John", "Minimum error thresholding", _PR, 1986, "10.1016/0031-3203(86)90030-0", "19", "41--47"),
    ("sauvola2000binarization", "Sauvola, Jaakko and Pietikäinen, Matti", "Adaptive document image binarization", _PR, 2000, "10.1016/S0031-3203(99)00055-2", "33", "225--236"),
    ("canny1986edge", "Canny, John", "A computational approach to edge detection", _PAMI, 1986, "10.1109/TPAMI.1986.4767851", "8", "679--698"),
    ("lloyd1982quantization", "Lloyd, Stuart P.", "Least squares quantization in PCM", "IEEE Transactions on Information Theory", 1982, "10.1109/TIT.1982.1056489", "28", "129--137"),
    ("chen2004fcm", "Chen, Songcan and Zhang, Daoqiang", "Robust image segmentation using FCM with spatial constraints based on new kernel-induced distance measure", "IEEE Transactions on Systems, Man, and Cybernetics, Part B", 2004, "10.1109/TSMCB.2004.831165", "34", "1907--1916"),
    ("dempster1977em", "Dempster, A. P. and Laird, N. M. and Rubin, D. B.", "Maximum likelihood from incomplete data via the EM algorithm", "Journal of the Royal Statistical Society B", 1977, "10.1111/j.2517-6161.1977.tb01600.x", "39", "1--22"),
    ("besag1986icm", "Besag, Julian", "On the statistical analysis of dirty pictures", "Journal of the Royal Statistical Society B", 1986, "10.1111/j.2517-6161.1986.tb01412.x", "48", "259--279"),
    ("comaniciu2002meanshift", "Comaniciu, Dorin and Meer, Peter", "Mean shift: a robust approach toward feature space analysis", _PAMI, 2002, "10.1109/34.1000236", "24", "603--619"),
    ("vincent1991watersheds", "Vincent, Luc and Soille, Pierre", "Watersheds in digital spaces: an efficient algorithm based on immersion simulations", _PAMI, 1991, "10.1109/34.87344", "13", "583--598"),
    ("camerini1978minmax", "Camerini, Paolo M.", "The min-max spanning tree problem and some extensions", "Information Processing Letters", 1978, "10.1016/0020-0190(78)90030-3", "7", "10--14"),
    ("adams1994srg", "Adams, Rolf and Bischof, Leanne", "Seeded region growing", _PAMI, 1994, "10.1109/34.295913", "16", "641--647"),
    ("mehnert1997srg", "Mehnert, Andrew and Jackway, Paul", "An improved seeded region growing algorithm", "Pattern Recognition Letters", 1997, "10.1016/S0167-8655(97)00131-1", "18", "1065--1071"),
    ("matas2004mser", "Matas, Jiří and Chum, Ondřej and Urban, Martin and Pajdla, Tomáš", "Robust wide-baseline stereo from maximally stable extremal regions", "Image and Vision Computing", 2004, "10.1016/j.imavis.2004.02.006", "22", "761--767"),
    ("salembier1998connected", "Salembier, Philippe and Oliveras, Albert and Garrido, Luis", "Antiextensive connected operators for image and sequence processing", _TIP, 1998, "10.1109/83.663500", "7", "555--570"),
    ("li2006surface", "Li, Kang and Wu, Xiaodong and Chen, Danny Z. and Sonka, Milan", "Optimal surface segmentation in volumetric images: a graph-theoretic approach", _PAMI, 2006, "10.1109/TPAMI.2006.19", "28", "119--134"),
    ("kolmogorov2006trw", "Kolmogorov, Vladimir", "Convergent tree-reweighted message passing for energy minimization", _PAMI, 2006, "10.1109/TPAMI.2006.200", "28", "1568--1583"),
    ("hojjatoleslami1998growing", "Hojjatoleslami, S. A. and Kittler, Josef", "Region growing: a new approach", _TIP, 1998, "10.1109/83.701170", "7", "1079--1084"),
    ("vincent1993reconstruction", "Vincent, Luc", "Morphological grayscale reconstruction in image analysis: applications and efficient algorithms", _TIP, 1993, "10.1109/83.217222", "2", "176--201"),
    ("horowitz1976split", "Horowitz, Steven L. and Pavlidis, Theodosios", "Picture segmentation by a tree traversal algorithm", "Journal of the ACM", 1976, "10.1145/321941.321956", "23", "368--388"),
    ("felzenszwalb2004graph", "Felzenszwalb, Pedro F. and Huttenlocher, Daniel P.", "Efficient graph-based image segmentation", _IJCV, 2004, "10.1023/B:VISI.0000022288.19776.77", "59", "167--181"),
    ("achanta2012slic", "Achanta, Radhakrishna and others", "SLIC superpixels compared to state-of-the-art superpixel methods", _PAMI, 2012, "10.1109/TPAMI.2012.120", "34", "2274--2282"),
    ("falcao2004ift", "Falcão, Alexandre X. and Stolfi, Jorge and Lotufo, Roberto de Alencar", "The image foresting transform: theory, algorithms, and applications", _PAMI, 2004, "10.1109/TPAMI.2004.1261076", "26", "19--29"),
    ("grady2006walker", "Grady, Leo", "Random walks for image segmentation", _PAMI, 2006, "10.1109/TPAMI.2006.233", "28", "1768--1783"),
    ("boykov2004maxflow", "Boykov, Yuri and Kolmogorov, Vladimir", "An experimental comparison of min-cut/max-flow algorithms for energy minimization in vision", _PAMI, 2004, "10.1109/TPAMI.2004.60", "26", "1124--1137"),
    ("caselles1997geodesic", "Caselles, Vicent and Kimmel, Ron and Sapiro, Guillermo", "Geodesic active contours", _IJCV, 1997, "10.1023/A:1007979827043", "22", "61--79"),
    ("chan2001active", "Chan, Tony F. and Vese, Luminita A.", "Active contours without edges", _TIP, 2001, "10.1109/83.902291", "10", "266--277"),
    ("esedoglu2015threshold", "Esedoğlu, Selim and Otto, Felix", "Threshold dynamics for networks with arbitrary surface tensions", "Communications on Pure and Applied Mathematics", 2015, "10.1002/cpa.21527", "68", "808--864"),
    ("malladi1995front", "Malladi, Ravikanth and Sethian, James A. and Vemuri, Baba C.", "Shape modeling with front propagation: a level set approach", _PAMI, 1995, "10.1109/34.368173", "17", "158--175"),
    ("jain1991gabor", "Jain, Anil K. and Farrokhnia, Farshid", "Unsupervised texture segmentation using Gabor filters", _PR, 1991, "10.1016/0031-3203(91)90143-S", "24", "1167--1186"),
    ("breiman2001forests", "Breiman, Leo", "Random forests", "Machine Learning", 2001, "10.1023/A:1010933404324", "45", "5--32"),
    ("lankton2008localizing", "Lankton, Shawn and Tannenbaum, Allen", "Localizing region-based active contours", _TIP, 2008, "10.1109/TIP.2008.2004611", "17", "2029--2039"),
    ("haralick1987morphology", "Haralick, Robert M. and Sternberg, Stanley R. and Zhuang, Xinhua", "Image analysis using mathematical morphology", _PAMI, 1987, "10.1109/TPAMI.1987.4767941", "9", "532--550"),
    ("felzenszwalb2012distance", "Felzenszwalb, Pedro F. and Huttenlocher, Daniel P.", "Distance transforms of sampled functions", "Theory of Computing", 2012, "10.4086/toc.2012.v008a019", "8", "415--428"),
    ("barber1996quickhull", "Barber, C. Bradford and Dobkin, David P. and Huhdanpaa, Hannu", "The quickhull algorithm for convex hulls", "ACM Transactions on Mathematical Software", 1996, "10.1145/235815.235821", "22", "469--483"),
    ("fedorov2012slicer", "Fedorov, Andriy and others", "3D Slicer as an image computing platform for the Quantitative Imaging Network", "Magnetic Resonance Imaging", 2012, "10.1016/j.mri.2012.05.001", "30", "1323--1341"),
    ("bilic2023lits", "Bilic, Patrick and others", "The Liver Tumor Segmentation Benchmark (LiTS)", "Medical Image Analysis", 2023, "10.1016/j.media.2022.102680", "84", "102680"),
)

PAPERS: tuple[tuple[str, str, str, str, int, str, str], ...] = (
    ("tomasi1998bilateral", "Tomasi, Carlo and Manduchi, Roberto", "Bilateral filtering for gray and color images", "IEEE International Conference on Computer Vision (ICCV)", 1998, "10.1109/ICCV.1998.710815", "839--846"),
    ("gwosdek2011box", "Gwosdek, Pascal and Grewenig, Sven and Bruhn, Andrés and Weickert, Joachim", "Theoretical foundations of Gaussian convolution by extended box filtering", "Scale Space and Variational Methods in Computer Vision", 2011, "10.1007/978-3-642-24785-9_38", "447--458"),
    ("criminisi2008geos", "Criminisi, Antonio and Sharp, Toby and Blake, Andrew", "GeoS: geodesic image segmentation", "European Conference on Computer Vision (ECCV)", 2008, "10.1007/978-3-540-88682-2_9", "99--112"),
    ("boykov2001cuts", "Boykov, Yuri and Jolly, Marie-Pierre", "Interactive graph cuts for optimal boundary and region segmentation of objects in N-D images", "IEEE International Conference on Computer Vision (ICCV)", 2001, "10.1109/ICCV.2001.937505", "105--112"),
    ("grimaud1992dynamics", "Grimaud, Michel", "New measure of contrast: the dynamics", "Proceedings of SPIE, Image Algebra and Morphological Image Processing III", 1992, "10.1117/12.60650", "292--305"),
    ("kirillov2019panoptic", "Kirillov, Alexander and He, Kaiming and Girshick, Ross and Rother, Carsten and Dollár, Piotr", "Panoptic segmentation", "IEEE Conference on Computer Vision and Pattern Recognition (CVPR)", 2019, "10.1109/CVPR.2019.00963", "9404--9413"),
)

BOOKS: tuple[tuple[str, str, str, str, int, str], ...] = (
    ("bezdek1981fuzzy", "Bezdek, James C.", "Pattern Recognition with Fuzzy Objective Function Algorithms", "Springer", 1981, "10.1007/978-1-4757-0450-1"),
)
# fmt: on
